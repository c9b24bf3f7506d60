"""Retries and waiting times; the clients only sleep.

Only requests that are safe to repeat are retried: GET, cancel, and a submission, because the service recognizes its
idempotency key.
"""

from __future__ import annotations

import json
import random
import time

import httpx2

from diffusers_handler_client import protocol
from diffusers_handler_client.errors import ApiError, TaskFailed, Unreachable, WaitTimeout
from diffusers_handler_client.polling import PolledEvents
from diffusers_handler_client.shapes import Event, Task

DEFAULT_RETRIES = 6
# Three heartbeat intervals of the service.
STREAM_TIMEOUT_SECONDS = 45.0
STREAM_POLL_SECONDS = 1.0
INITIAL_DELAY, MAX_DELAY = 0.25, 8.0
INITIAL_POLL_DELAY, MAX_POLL_DELAY = 0.1, 2.0
# Answers of a service that restarts or has lost its database, and of a proxy in front of it.
TRANSIENT_STATUSES = frozenset({502, 503, 504})


class RetryPolicy:
    """Retries that are left, and the delay before the next one."""

    def __init__(self, retries: int) -> None:
        """Allow this many retries."""
        self._retries_left = retries
        self._delay = INITIAL_DELAY

    def delay_after(self, error: ApiError) -> float:
        """Return the number of seconds to wait before the next attempt.

        Raises:
            ApiError: This error, if a retry would not help, none is left or the service asks to wait too long.
        """
        transient = isinstance(error, Unreachable) or error.status in TRANSIENT_STATUSES
        asked = error.retry_after or 0
        if not transient or self._retries_left <= 0 or asked > MAX_DELAY:
            raise error
        pause = max(asked, self._delay * random.uniform(0.5, 1))  # noqa: S311 - no secret
        self._retries_left -= 1
        self._delay = min(2 * self._delay, MAX_DELAY)
        return pause


class StreamState:
    """One task's events over all connections; `polling` while the service answers but its stream is unavailable."""

    def __init__(self, task: Task | str, retries: int) -> None:
        """Start with the first event; each event renews the retries."""
        self.ended = False
        self.polling = False
        self.poll_delay = STREAM_POLL_SECONDS
        self._task = task
        self._retries = retries
        self._retry_policy = RetryPolicy(retries)
        self._last_id = ""
        self._received = False
        self._polled = PolledEvents()

    def build_stream_call(self) -> protocol.Call:
        """Return the call that opens the stream after the last event received."""
        self._received = False
        headers = {
            "Accept": protocol.STREAM_CONTENT_TYPE,
            **({"Last-Event-ID": self._last_id} if self._last_id else {}),
        }
        path = f"{protocol.task_path(self._task)}/events"
        return protocol.Call(method="GET", path=path, headers=headers, read_seconds=STREAM_TIMEOUT_SECONDS)

    def build_poll_call(self) -> protocol.Call:
        """Return the call that reads the task instead."""
        return protocol.get_task_call(self._task)

    def parse_event(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """Return the event, or None for one without data, which only sets how to reconnect."""
        self._last_id = sent.id or self._last_id
        if not sent.data:
            return None
        self._received = True
        self._retry_policy = RetryPolicy(self._retries)
        event = Event.parse(sent.event, json.loads(sent.data), id=sent.id)
        self.ended = event.name == "done"
        return event

    def parse_polled(self, answer: httpx2.Response) -> list[Event]:
        """Return what changed since the last poll as events of the stream."""
        self._retry_policy = RetryPolicy(self._retries)
        task = protocol.parse_task(answer)
        self.ended = task.ended
        return self._polled.list_changes(task)

    def raise_if_unfinished(self) -> None:
        """Check that the service closed the stream only after the task's end.

        Raises:
            Unreachable: The stream was closed earlier.
        """
        if not self.ended:
            raise Unreachable("The event stream broke off.")

    def delay_after(self, error: ApiError) -> float:
        """Return how many seconds to wait before the next request; it polls if the stream seems unavailable.

        Raises:
            ApiError: This error, if a retry would not help or none is left.
        """
        # After a failed poll the whole service may have been away, so the stream gets another chance.
        self.polling = not self.polling and not self._received and _is_stream_unavailable(error)
        return 0 if self.polling else self._retry_policy.delay_after(error)


class PollPolicy:
    """Delays between polls of a task until it has ended."""

    def __init__(self, timeout: float | None) -> None:
        """Allow this many seconds, or any number with None."""
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._delay = INITIAL_POLL_DELAY

    def delay_after(self, task: Task) -> float:
        """Return how many seconds to wait before the next poll; 0 when the task has succeeded.

        Raises:
            TaskFailed: It failed or was canceled.
            WaitTimeout: It has not ended in time.
        """
        if task.succeeded:
            return 0
        if task.ended:
            raise TaskFailed(task)
        left = MAX_POLL_DELAY
        if self._deadline is not None and self._timeout is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(task, self._timeout)
        pause, self._delay = self._delay, min(1.3 * self._delay, MAX_POLL_DELAY)
        return min(pause, left)


def _is_stream_unavailable(error: ApiError) -> bool:
    """Return whether only the stream may be unavailable, as behind some proxies; a refused connection is an outage."""
    if isinstance(error, Unreachable):
        cause = error.__cause__
        return cause is not None and not isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout))
    return error.code == "unexpected" or error.status in TRANSIENT_STATUSES
