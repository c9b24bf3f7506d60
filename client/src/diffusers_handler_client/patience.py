"""When something is tried again, and until when something is waited for; the clients only sleep.

Only what does nothing twice is tried again: GET, a cancel, and a submission, because its idempotency key tells the
service that it has it already.
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
# Three of the service's heartbeats.
STREAM_TIMEOUT_SECONDS = 45.0
INITIAL_DELAY, MAX_DELAY = 0.25, 8.0
INITIAL_POLL_DELAY, MAX_POLL_DELAY = 0.1, 2.0
# Answers of a service that is restarting, or whose database is away, and of proxies before it.
TRANSIENT_STATUSES = frozenset({502, 503, 504})


class RetryPolicy:
    """How often a call was tried, and when it is tried next."""

    def __init__(self, retries: int) -> None:
        """Allow so many retries."""
        self._retries_left = retries
        self._delay = INITIAL_DELAY

    def delay_after(self, error: ApiError) -> float:
        """Return how many seconds to wait before the next try.

        Raises:
            ApiError: this very error, if another try would not help, was too much or had to wait too long.
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
    """One task's stream over all its connections."""

    def __init__(self, task: Task | str, retries: int) -> None:
        """Begin at the beginning; so many retries are allowed after the last event."""
        self.ended = False
        self._path = f"{protocol.task_path(task)}/events"
        self._retries = retries
        self._retry_policy = RetryPolicy(retries)
        self._last_id = ""

    def build_call(self) -> protocol.Call:
        """Return the call that opens the stream where it broke off."""
        headers = {
            "Accept": protocol.STREAM_CONTENT_TYPE,
            **({"Last-Event-ID": self._last_id} if self._last_id else {}),
        }
        return protocol.Call(method="GET", path=self._path, headers=headers, read_seconds=STREAM_TIMEOUT_SECONDS)

    def parse_event(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """Return what was sent, unless it only says how to come back."""
        self._last_id = sent.id or self._last_id
        if not sent.data:
            return None
        self._retry_policy = RetryPolicy(self._retries)
        event = Event.parse(sent.event, json.loads(sent.data), id=sent.id)
        self.ended = event.name == "done"
        return event

    def raise_if_unfinished(self) -> None:
        """Take note that the service closed the stream.

        Raises:
            Unreachable: it did so before the task's end.
        """
        if not self.ended:
            raise Unreachable("The event stream broke off.")

    def delay_after(self, error: ApiError) -> float:
        """Return how many seconds to wait before the stream is opened again.

        Raises:
            ApiError: this very error, if it is not.
        """
        return self._retry_policy.delay_after(error)


class PollPolicy:
    """How often a task is looked at until it has ended."""

    def __init__(self, timeout: float | None) -> None:
        """Allow so many seconds, or as many as it takes."""
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._delay = INITIAL_POLL_DELAY

    def delay_after(self, task: Task) -> float:
        """Return how many seconds to wait before the next look; 0 when the task has succeeded.

        Raises:
            TaskFailed: it has ended otherwise.
            WaitTimeout: it has not ended in time.
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
