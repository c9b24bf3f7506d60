"""Fan-out inside one web process: one Redis subscription and one poll of the rows for all open streams.

Redis delivers events at once; the poll finds within seconds the changes that Redis lost or missed while it was
unavailable. Both run only while there are subscribers.
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

from tasks_app.api.live.states import DATABASE_AWAY, TaskState, get_task_states, read_async
from tasks_app.contracts import Event
from tasks_app.events import progress
from tasks_app.models import TERMINAL, Status

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
# A stream with more pending messages is closed; its client reconnects with the id of the last event it received.
MAX_PENDING = 1000
# A subscription that is silent for this long is pinged, and closed if it stays silent.
SILENCE_SECONDS = 15.0
_BACKOFF = ExponentialBackoff(cap=5.0, base=0.25)
# After this many failures the delay between retries stops growing.
MAX_BACKOFF_FAILURES = 5

StreamMessage = Event | TaskState


class Subscriber:
    """Queue of the pending messages of one stream."""

    def __init__(self, task_ids: Iterable[UUID]) -> None:
        self.task_ids = frozenset(task_ids)
        self.closed = False
        self._pending: dict[Hashable, StreamMessage] = {}
        self._has_messages = asyncio.Event()

    def add_message(self, notice: StreamMessage) -> None:
        """Add a message; a preview replaces a pending older one of the same task."""
        if self.closed:
            return
        latest = isinstance(notice, Event) and notice.name == "preview"
        key: Hashable = notice.task_id if latest else object()
        self._pending.pop(key, None)
        self._pending[key] = notice
        self._has_messages.set()
        if len(self._pending) > MAX_PENDING:
            self.close()

    def close(self) -> None:
        """Drop the pending messages and end the stream."""
        self.closed = True
        self._pending.clear()
        self._has_messages.set()

    async def take_messages(self, timeout_seconds: float) -> list[StreamMessage]:
        """Return all pending messages as soon as there are any; none on timeout or after `close`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._has_messages.wait()
        if not self.closed:
            self._has_messages.clear()
        notices, self._pending = list(self._pending.values()), {}
        return notices


class Hub:
    """All subscribers of this process."""

    def __init__(self) -> None:
        self._subscribers: dict[UUID, set[Subscriber]] = {}
        self._known_states: dict[UUID, TaskState] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._failures = 0

    @asynccontextmanager
    async def subscribe_tasks(self, task_ids: Iterable[UUID]) -> AsyncIterator[Subscriber]:
        """Yield a subscriber that receives every message about these tasks from now on.

        By then the hub is subscribed to Redis, unless Redis is unavailable.
        """
        watcher = Subscriber(task_ids)
        for task_id in watcher.task_ids:
            self._subscribers.setdefault(task_id, set()).add(watcher)
        if self._loop_task is None:
            self._start_loops()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                    await self._tried.wait()
            yield watcher
        finally:
            self._remove_subscriber(watcher)

    def _remove_subscriber(self, watcher: Subscriber) -> None:
        for task_id in watcher.task_ids:
            self._subscribers[task_id].discard(watcher)
            if not self._subscribers[task_id]:
                del self._subscribers[task_id]
                self._known_states.pop(task_id, None)
        if not self._subscribers and self._loop_task is not None:
            self._loop_task.cancel()
            self._loop_task = None

    def _start_loops(self) -> None:
        self._tried, self._look = asyncio.Event(), asyncio.Event()
        # In a new context: the loops outlive the request that starts them, and must not log its id.
        self._loop_task = asyncio.create_task(self._run_loops(), context=contextvars.Context())
        self._loop_task.add_done_callback(self._on_loops_done)

    async def _run_loops(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_listening())
            group.create_task(self._poll_rows())

    def _on_loops_done(self, work: asyncio.Task[None]) -> None:
        """Close all streams after an unexpected error: their clients reconnect, which restarts the hub."""
        if work.cancelled() or (error := work.exception()) is None:
            return
        logger.error("The event hub failed.", exc_info=error)
        if self._loop_task is work:
            self._loop_task = None
        for watcher in {watcher for watchers in self._subscribers.values() for watcher in watchers}:
            watcher.close()

    def _publish_message(self, notice: StreamMessage) -> None:
        for watcher in self._subscribers.get(notice.task_id, ()):
            watcher.add_message(notice)

    async def _poll_rows(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._look.wait()
            self._look.clear()
            try:
                self._publish_changes(await read_async(get_task_states, list(self._subscribers)))
            except DATABASE_AWAY as error:
                logger.warning("Event streams can't read the database: %s", type(error).__name__)

    def _publish_changes(self, found: dict[UUID, TaskState]) -> None:
        """Publish changed states; repeat the end of a task, because its stream may have failed to read the row."""
        for task_id, state in found.items():
            if state.status in TERMINAL or state != self._known_states.get(task_id):
                self._publish_message(state)
            if task_id in self._subscribers:
                self._known_states[task_id] = state

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen_redis()
            except (redis.RedisError, TimeoutError) as error:
                logger.warning("Live events unavailable: %s", type(error).__name__)
            self._tried.set()
            # Bounded: redis-py computes the power before the cap, which overflows after 1.5 hours of outage.
            self._failures = min(self._failures + 1, MAX_BACKOFF_FAILURES)
            await asyncio.sleep(_BACKOFF.compute(self._failures))

    async def _listen_redis(self) -> None:
        """Publish the events from Redis until it is silent for too long."""
        # No socket timeout: a subscription may be silent for long. Also, with a timeout redis-py sends through
        # asyncio.wait_for, which may lose a cancellation before Python 3.12.
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
                    self._on_redis_event(progress.parse_message(message["data"]))
                elif message["type"] == "subscribe":
                    self._failures = 0
                    self._tried.set()
                    self._look.set()  # for changes missed before the subscription

    def _on_redis_event(self, event: Event) -> None:
        if event.name == "status" and event.data["status"] == Status.QUEUED and event.task_id in self._subscribers:
            self._look.set()  # for its queue position
        self._publish_message(event)


hub = Hub()
