"""Retries and timeouts, computed here for both clients, which only sleep.

Only calls that are safe to repeat are retried: GET, cancel, and submissions, whose idempotency key lets the service
recognize a repeated one.
"""

from __future__ import annotations

import json
import random
import time

import httpx2

from diffusers_handler_client import protocol
from diffusers_handler_client.errors import ApiError, TaskFailed, Unreachable, WaitTimeout
from diffusers_handler_client.shapes import Event, Task

DEFAULT_RETRIES = 6
# Three heartbeat intervals of the service.
STREAM_TIMEOUT_SECONDS = 45.0
INITIAL_DELAY, MAX_DELAY = 0.25, 8.0
INITIAL_POLL_DELAY, MAX_POLL_DELAY = 0.1, 2.0
# Statuses of a service that is restarting or has lost its database, and of proxies in front of it.
TRANSIENT_STATUSES = frozenset({502, 503, 504})


class RetryPolicy:
    """Retries left for a call, and the delay before the next one."""

    def __init__(self, retries: int) -> None:
        """Allow this number of retries."""
        self._retries_left = retries
        self._delay = INITIAL_DELAY

    def delay_after(self, error: ApiError) -> float:
        """Return the number of seconds to wait before the next attempt.

        Raises:
            ApiError: this error, if a retry would not help, none is left, or the service asks for too long a wait.
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
    """State of one task's event stream across its connections."""

    def __init__(self, task: Task | str, retries: int) -> None:
        """Start at the first event; allow this number of retries after each event received."""
        self.ended = False
        self._path = f"{protocol.task_path(task)}/events"
        self._retries = retries
        self._retry_policy = RetryPolicy(retries)
        self._last_id = ""

    def build_call(self) -> protocol.Call:
        """Return the call that opens the stream, or resumes it after the last event received."""
        headers = {
            "Accept": protocol.STREAM_CONTENT_TYPE,
            **({"Last-Event-ID": self._last_id} if self._last_id else {}),
        }
        return protocol.Call(method="GET", path=self._path, headers=headers, read_seconds=STREAM_TIMEOUT_SECONDS)

    def parse_event(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """Return the parsed event, or None if it only sets the event id or the retry time."""
        self._last_id = sent.id or self._last_id
        if not sent.data:
            return None
        self._retry_policy = RetryPolicy(self._retries)
        event = Event.parse(sent.event, json.loads(sent.data), id=sent.id)
        self.ended = event.name == "done"
        return event

    def raise_if_unfinished(self) -> None:
        """Check that the task had ended when the service closed the stream.

        Raises:
            Unreachable: the stream was closed before the task ended.
        """
        if not self.ended:
            raise Unreachable("The event stream broke off.")

    def delay_after(self, error: ApiError) -> float:
        """Return the number of seconds to wait before reopening the stream.

        Raises:
            ApiError: this error, if the stream is not to be reopened.
        """
        return self._retry_policy.delay_after(error)


class PollPolicy:
    """Delays between reads of a task until it has ended."""

    def __init__(self, timeout: float | None) -> None:
        """Allow this number of seconds, or any number if None."""
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._delay = INITIAL_POLL_DELAY

    def delay_after(self, task: Task) -> float:
        """Return the number of seconds to wait before the next read; 0 if the task has succeeded.

        Raises:
            TaskFailed: the task failed or was canceled.
            WaitTimeout: the task has not ended in time.
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
