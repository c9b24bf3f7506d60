"""The fan-out of live events inside one web process."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from tasks_app.api.live import hub as hubs
from tasks_app.api.live.hub import Hub, StreamMessage, Subscriber
from tasks_app.api.live.states import TaskState, read_async
from tasks_app.contracts import Event
from tasks_app.events import progress
from tasks_app.models import Status, Task
from tasks_app.queue import lifecycle
from tests.support.claims import claim_one
from tests.support.streams import read_entries

pytestmark = pytest.mark.django_db(transaction=True)
Answer = TypeVar("Answer")
PATIENCE_SECONDS = 10


def event(task_id: UUID, step: int, name: str = "progress") -> Event:
    return Event(task_id=task_id, name=name, data={"step": step}, entry="" if name == "preview" else f"1-{step}")


def run(test: Callable[[Hub], Coroutine[Any, Any, None]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(60):
            await test(Hub())

    asyncio.run(timed())


async def first(watcher: Subscriber, good: Callable[[StreamMessage], object]) -> StreamMessage:
    """Take notices until one is good."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for notice in await watcher.take_messages(1):
                if good(notice):
                    return notice


async def until(look: Callable[[], Answer], good: Callable[[Answer], object]) -> Answer:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not good(seen := look()):
            await asyncio.sleep(0.01)
        return seen


def subscriptions() -> int:
    return int(progress.client.pubsub_numsub(progress.CHANNEL)[0][1])


def test_what_the_hub_logs_belongs_to_no_request(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    seen: list[dict[str, Any]] = []

    class Context(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(get_contextvars())

    async def check(hub: Hub) -> None:
        with bound_contextvars(request_id="the first stream's"):
            async with hub.subscribe_tasks([uuid4()]):
                await until(lambda: seen, bool)

    context = Context()
    hubs.logger.addHandler(context)
    try:
        run(check)
    finally:
        hubs.logger.removeHandler(context)
    assert seen[0] == {}


def test_a_notice_waits_for_nobody_and_wakes_its_stream() -> None:
    async def check() -> None:
        watcher, task_id = Subscriber([]), uuid4()
        assert await watcher.take_messages(0) == []
        taking = asyncio.create_task(watcher.take_messages(PATIENCE_SECONDS))
        await asyncio.sleep(0)
        watcher.add_message(event(task_id, 1))
        watcher.add_message(event(task_id, 2))
        assert await taking == [event(task_id, 1), event(task_id, 2)]
        assert await watcher.take_messages(0) == []

    asyncio.run(check())


def test_of_the_previews_that_wait_only_the_latest_of_each_task_counts() -> None:
    async def check() -> None:
        watcher, one, other = Subscriber([]), uuid4(), uuid4()
        for step in range(3):
            watcher.add_message(event(one, step, "preview"))
            watcher.add_message(event(other, step, "preview"))
            watcher.add_message(event(one, step))
        notices = await watcher.take_messages(0)
        assert [notice for notice in notices if isinstance(notice, Event) and notice.name == "preview"] == [
            event(one, 2, "preview"),
            event(other, 2, "preview"),
        ]
        assert len(notices) == 5

    asyncio.run(check())


def test_a_stream_that_is_too_far_behind_is_closed_and_holds_nothing() -> None:
    async def check() -> None:
        watcher, task_id = Subscriber([]), uuid4()
        for step in range(hubs.MAX_PENDING):
            watcher.add_message(event(task_id, step))
        assert not watcher.closed
        for step in range(2):
            watcher.add_message(event(task_id, step))
        assert watcher.closed
        assert await watcher.take_messages(PATIENCE_SECONDS) == []

    asyncio.run(check())


def test_what_is_published_reaches_those_who_watch_the_task_and_nobody_else() -> None:
    async def check(hub: Hub) -> None:
        one, other = uuid4(), uuid4()
        async with (
            hub.subscribe_tasks([one]) as first_one,
            hub.subscribe_tasks([one, other]) as both,
            hub.subscribe_tasks([other]) as second,
        ):
            assert subscriptions() == 1
            await read_async(progress.publish_event, one, "progress", {"step": 1})
            await read_async(progress.publish_event, other, "preview", {"step": 2})
            told = await first(second, lambda notice: isinstance(notice, Event))
            assert told == Event(task_id=other, name="preview", data={"step": 2})
            told = await first(first_one, lambda notice: isinstance(notice, Event))
            (entry, _), *_ = await read_async(read_entries, one)
            assert told == Event(task_id=one, name="progress", data={"step": 1}, entry=entry)
            ids = {(await first(both, lambda notice: isinstance(notice, Event))).task_id}
            assert ids <= {one, other}

    run(check)


def test_once_the_subscription_stands_the_rows_are_looked_at_without_delay(
    make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_SECONDS", 3600)
    task = make_task()

    async def check(hub: Hub) -> None:
        async with hub.subscribe_tasks([task.pk]) as watcher:
            await first(watcher, lambda notice: isinstance(notice, TaskState))
            await read_async(claim_one, worker="a-worker:1", lease_seconds=30)
            await read_async(progress.publish_event, task.pk, "status", {"status": "queued"})
            told = await first(watcher, lambda notice: isinstance(notice, TaskState))
            assert isinstance(told, TaskState)
            assert told.status == "running"

    run(check)


def test_the_poll_tells_changes_once_and_ends_until_nobody_watches(
    make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_SECONDS", 0.05)
    task = make_task()

    async def check(hub: Hub) -> None:
        async with hub.subscribe_tasks([task.pk]) as watcher:
            state = await first(watcher, lambda notice: isinstance(notice, TaskState))
            assert state == TaskState(task_id=task.pk, status=Status.QUEUED, attempt=0, queue_position=1)
            assert await watcher.take_messages(0.5) == []
            await read_async(lifecycle.cancel_task, task.pk)
            for _ in range(2):
                ended = await first(watcher, lambda notice: isinstance(notice, TaskState))
                assert ended == TaskState(task_id=task.pk, status=Status.CANCELED, attempt=0)

    run(check)


def test_however_streams_come_and_go_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "POLL_SECONDS", 0.01)
    random.seed(1)

    async def visit(hub: Hub) -> None:
        async with hub.subscribe_tasks([uuid4()]):
            await asyncio.sleep(random.random() / 50)

    async def check(hub: Hub) -> None:
        for _ in range(150):
            visitor = asyncio.create_task(visit(hub))
            await asyncio.sleep(random.random() / 30)
            visitor.cancel()
            await asyncio.wait([visitor])
        await until(lambda: (subscriptions(), len(asyncio.all_tasks())), lambda left: left == (0, 1))

    run(check)


def test_after_an_error_nobody_expected_streams_are_closed_and_the_next_ones_work() -> None:
    async def check(hub: Hub) -> None:
        task_id = uuid4()
        async with hub.subscribe_tasks([task_id]) as watcher:
            await read_async(progress.client.publish, progress.CHANNEL, "garbage")
            await until(lambda: watcher.closed, bool)
        async with hub.subscribe_tasks([task_id]) as watcher:
            await read_async(progress.publish_event, task_id, "progress", {"step": 1})
            await first(watcher, lambda notice: isinstance(notice, Event))

    run(check)


def test_without_redis_the_rows_are_watched_all_the_same(
    make_task: Callable[..., Task], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_SECONDS", 0.05)
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    task = make_task()

    async def check(hub: Hub) -> None:
        async with hub.subscribe_tasks([task.pk]) as watcher:
            await first(watcher, lambda notice: isinstance(notice, TaskState))
            await read_async(claim_one, worker="a-worker:1", lease_seconds=30)
            running = await first(watcher, lambda notice: isinstance(notice, TaskState))
            assert isinstance(running, TaskState)
            assert (running.status, running.attempt) == ("running", 1)

    run(check)


def test_an_outage_of_redis_may_last_for_hours(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "POLL_SECONDS", 0.05)
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"

    async def check(hub: Hub) -> None:
        hub._failures = 5000  # as one every five seconds adds up
        async with hub.subscribe_tasks([uuid4()]) as watcher:
            assert await watcher.take_messages(PATIENCE_SECONDS)
            assert not watcher.closed

    run(check)
