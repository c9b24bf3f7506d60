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

RETRIES = 6
# Three of the service's heartbeats.
STREAM_SECONDS = 45.0
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
FIRST_LOOK, LONGEST_LOOK = 0.1, 2.0
# Answers of a service that is restarting, or whose database is away, and of proxies before it.
TRANSIENT = frozenset({502, 503, 504})


class Attempts:
    """How often a call was tried, and when it is tried next."""

    def __init__(self, retries: int) -> None:
        """Allow so many retries."""
        self._left = retries
        self._pause = FIRST_PAUSE

    def pause_after(self, error: ApiError) -> float:
        """Return how many seconds to wait before the next try.

        Raises:
            ApiError: this very error, if another try would not help, was too much or had to wait too long.
        """
        transient = isinstance(error, Unreachable) or error.status in TRANSIENT
        asked = error.retry_after or 0
        if not transient or self._left <= 0 or asked > LONGEST_PAUSE:
            raise error
        pause = max(asked, self._pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
        self._left -= 1
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return pause


class Following:
    """One task's stream over all its connections."""

    def __init__(self, task: Task | str, retries: int) -> None:
        """Begin at the beginning; so many retries are allowed after the last event."""
        self.ended = False
        self._path = f"{protocol.path(task)}/events"
        self._retries = retries
        self._attempts = Attempts(retries)
        self._last_id = ""

    def call(self) -> protocol.Call:
        """Return the call that opens the stream where it broke off."""
        headers = {"Accept": protocol.STREAM, **({"Last-Event-ID": self._last_id} if self._last_id else {})}
        return protocol.Call(method="GET", path=self._path, headers=headers, read_seconds=STREAM_SECONDS)

    def event(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """Return what was sent, unless it only says how to come back."""
        self._last_id = sent.id or self._last_id
        if not sent.data:
            return None
        self._attempts = Attempts(self._retries)
        event = Event.parse(sent.event, json.loads(sent.data), id=sent.id)
        self.ended = event.name == "done"
        return event

    def closed(self) -> None:
        """Take note that the service closed the stream.

        Raises:
            Unreachable: it did so before the task's end.
        """
        if not self.ended:
            raise Unreachable("The event stream broke off.")

    def pause_after(self, error: ApiError) -> float:
        """Return how many seconds to wait before the stream is opened again.

        Raises:
            ApiError: this very error, if it is not.
        """
        return self._attempts.pause_after(error)


class Waiting:
    """How often a task is looked at until it has ended."""

    def __init__(self, timeout: float | None) -> None:
        """Allow so many seconds, or as many as it takes."""
        self._timeout = timeout
        self._until = None if timeout is None else time.monotonic() + timeout
        self._pause = FIRST_LOOK

    def pause_after(self, task: Task) -> float:
        """Return how many seconds to wait before the next look; 0 when the task has succeeded.

        Raises:
            TaskFailed: it has ended otherwise.
            WaitTimeout: it has not ended in time.
        """
        if task.succeeded:
            return 0
        if task.ended:
            raise TaskFailed(task)
        left = LONGEST_LOOK
        if self._until is not None and self._timeout is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise WaitTimeout(task, self._timeout)
        pause, self._pause = self._pause, min(1.3 * self._pause, LONGEST_LOOK)
        return min(pause, left)
