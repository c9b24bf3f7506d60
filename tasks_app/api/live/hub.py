"""Fan-out inside one web process: one subscription to Redis and one poll of the rows, however many streams are open.

Redis says at once what happens; the poll finds within seconds what Redis lost or was not there to say. Both run while
somebody watches.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import redis.asyncio
from django.conf import settings
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from tasks_app.api.live.states import DATABASE_AWAY, State, reading, states
from tasks_app.contracts import Event
from tasks_app.events import progress
from tasks_app.models import TERMINAL, Status

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
# A stream that is so far behind is closed; its client comes back and says what it has seen.
MAX_WAITING = 1000
# A subscription that is silent for so long is asked whether it lives, and given up if it stays silent.
SILENCE_SECONDS = 15.0
_BACKOFF = ExponentialBackoff(cap=5.0, base=0.25)
# From this one on the pauses between two tries grow no more.
MOST_FAILURES = 5

Notice = Event | State


class Watcher:
    """What waits for one stream."""

    def __init__(self, task_ids: Iterable[UUID]) -> None:
        self.task_ids = frozenset(task_ids)
        self.closed = False
        self._waiting: dict[Hashable, Notice] = {}
        self._bell = asyncio.Event()

    def put(self, notice: Notice) -> None:
        """Add a notice; a preview takes the place of an older one that still waits."""
        if self.closed:
            return
        latest = isinstance(notice, Event) and notice.name == "preview"
        key: Hashable = notice.task_id if latest else object()
        self._waiting.pop(key, None)
        self._waiting[key] = notice
        self._bell.set()
        if len(self._waiting) > MAX_WAITING:
            self.close()

    def close(self) -> None:
        """Let the stream end."""
        self.closed = True
        self._waiting.clear()
        self._bell.set()

    async def take(self, timeout_seconds: float) -> list[Notice]:
        """Return all that waits, as soon as something does; nothing after the time is over or when it was closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._bell.wait()
        if not self.closed:
            self._bell.clear()
        notices, self._waiting = list(self._waiting.values()), {}
        return notices


class Hub:
    """All watchers of this process."""

    def __init__(self) -> None:
        self._watchers: dict[UUID, set[Watcher]] = {}
        self._states: dict[UUID, State] = {}
        self._work: asyncio.Task[None] | None = None
        self._failures = 0

    @asynccontextmanager
    async def watch(self, task_ids: Iterable[UUID]) -> AsyncIterator[Watcher]:
        """Return a watcher that gets every notice of these tasks from now on.

        The subscription stands then, unless Redis is away.
        """
        watcher = Watcher(task_ids)
        for task_id in watcher.task_ids:
            self._watchers.setdefault(task_id, set()).add(watcher)
        if self._work is None:
            self._start()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                    await self._tried.wait()
            yield watcher
        finally:
            self._remove(watcher)

    def _remove(self, watcher: Watcher) -> None:
        for task_id in watcher.task_ids:
            self._watchers[task_id].discard(watcher)
            if not self._watchers[task_id]:
                del self._watchers[task_id]
                self._states.pop(task_id, None)
        if not self._watchers and self._work is not None:
            self._work.cancel()
            self._work = None

    def _start(self) -> None:
        self._tried, self._look = asyncio.Event(), asyncio.Event()
        # In a context of its own: it outlives the request that starts it, whose id its lines must not carry.
        self._work = asyncio.create_task(self._run(), context=contextvars.Context())
        self._work.add_done_callback(self._ended)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._subscribe())
            group.create_task(self._poll())

    def _ended(self, work: asyncio.Task[None]) -> None:
        """Close all streams after an error that nobody expected: their clients come back, and the hub starts anew."""
        if work.cancelled() or (error := work.exception()) is None:
            return
        logger.error("The hub of live events failed.", exc_info=error)
        if self._work is work:
            self._work = None
        for watcher in {watcher for watchers in self._watchers.values() for watcher in watchers}:
            watcher.close()

    def _tell(self, notice: Notice) -> None:
        for watcher in self._watchers.get(notice.task_id, ()):
            watcher.put(notice)

    async def _poll(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._look.wait()
            self._look.clear()
            try:
                self._compare(await reading(states, list(self._watchers)))
            except DATABASE_AWAY as error:
                logger.warning("Streams can't see the rows: %s", type(error).__name__)

    def _compare(self, found: dict[UUID, State]) -> None:
        """Tell what has changed, and an end again and again: its stream may not have been able to read it."""
        for task_id, state in found.items():
            if state.status in TERMINAL or state != self._states.get(task_id):
                self._tell(state)
            if task_id in self._watchers:
                self._states[task_id] = state

    async def _subscribe(self) -> None:
        while True:
            try:
                await self._listen()
            except (redis.RedisError, TimeoutError) as error:
                logger.warning("No live events: %s", type(error).__name__)
            self._tried.set()
            # Bounded: redis-py computes the power before the cap, which overflows after an hour and a half of outage.
            self._failures = min(self._failures + 1, MOST_FAILURES)
            await asyncio.sleep(_BACKOFF.compute(self._failures))

    async def _listen(self) -> None:
        """Tell what Redis tells, until it is silent for too long."""
        # No socket timeout: a subscription is silent for long; and with one redis-py sends through asyncio.wait_for,
        # which until Python 3.12 may lose a cancel.
        never = Retry(NoBackoff(), 0)
        async with (
            redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=None, retry=never) as client,
            client.pubsub() as subscription,
        ):
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                await subscription.subscribe(progress.CHANNEL)
            asked = False
            while True:
                message = await subscription.get_message(timeout=SILENCE_SECONDS)
                if message is None and asked:
                    return
                if asked := message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    self._hear(progress.parse(message["data"]))
                elif message["type"] == "subscribe":
                    self._failures = 0
                    self._tried.set()
                    self._look.set()  # for what happened while nobody listened

    def _hear(self, event: Event) -> None:
        if event.name == "status" and event.data["status"] == Status.QUEUED and event.task_id in self._watchers:
            self._look.set()  # for its place in the queue
        self._tell(event)


hub = Hub()
