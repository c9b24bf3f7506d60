"""Live progress in Redis."""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any
from uuid import uuid4

import pytest
import redis

from tasks_app.contracts import Event, StreamSlice
from tasks_app.events import progress
from tests.support.streams import read_entries

Events = Callable[..., list[tuple[str, dict[str, Any]]]]


def test_the_latest_progress_and_every_event_are_kept_as_json(events: Events) -> None:
    task_id = uuid4()
    for step in (1, 2):
        progress.publish_event(task_id, "progress", {"step": step})
    progress.publish_event(task_id, "status", {"status": "succeeded"})
    assert progress._read_latest([task_id, uuid4()]) == {task_id: {"step": 2}}
    assert events(task_id) == [
        ("progress", {"step": 1}),
        ("progress", {"step": 2}),
        ("status", {"status": "succeeded"}),
    ]


def test_of_several_tasks_each_is_told_its_own_in_one_call(events: Events) -> None:
    first, second, before = uuid4(), uuid4(), scripts_run()
    progress.publish_events("progress", {first: {"step": 1}, second: {"step": 2}})
    assert scripts_run() == before + 2  # its own is one, too
    assert progress._read_latest([first, second]) == {first: {"step": 1}, second: {"step": 2}}
    assert (events(first), events(second)) == ([("progress", {"step": 1})], [("progress", {"step": 2})])


def scripts_run() -> int:
    # The first call of a process may bring the script along.
    progress.publish_events("status", {uuid4(): {}})
    calls: int = progress.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    return calls


def test_all_keys_expire_the_preview_first(settings: Any) -> None:
    settings.PROGRESS_TTL_SECONDS = 1000
    task_id = uuid4()
    progress.publish_event(task_id, "progress", {"step": 1})
    progress.publish_event(task_id, "preview", {"step": 1})
    for key in (progress.progress_key(task_id), progress.events_key(task_id)):
        assert 990 < progress.client.ttl(key) <= 1000
    assert 590 < progress.client.ttl(progress.preview_key(task_id)) <= 600


def test_whatever_is_published_goes_to_one_channel_with_its_entry() -> None:
    task_id, data = uuid4(), {"text": "two\nlines"}
    with progress.client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(progress.CHANNEL)
        progress.publish_event(task_id, "status", data)
        progress.publish_event(task_id, "preview", data)
        heard = [progress.parse_message(message["data"]) for message in islice(channel.listen(), 2)]
    ((entry, _),) = read_entries(task_id)
    assert heard == [
        Event(task_id=task_id, name="status", data=data, entry=entry),
        Event(task_id=task_id, name="preview", data=data),
    ]


def test_a_trail_has_the_newest_event_those_since_another_and_the_latest_preview() -> None:
    task_id, nothing = uuid4(), uuid4()
    for step in (1, 2, 3):
        progress.publish_event(task_id, "progress", {"step": step})
        progress.publish_event(task_id, "preview", {"step": step})
    ids = [entry for entry, _ in read_entries(task_id)]
    assert progress.read_streams([nothing]) == {nothing: StreamSlice()}

    def steps(**since: Any) -> list[int]:
        trail = progress.read_streams([task_id], **since)[task_id]
        assert trail.newest == Event(task_id=task_id, name="progress", data={"step": 3}, entry=ids[2])
        assert trail.preview == Event(task_id=task_id, name="preview", data={"step": 3})
        return [event.data["step"] for event in trail.since]

    assert steps() == []
    assert steps(after=ids[0]) == [2, 3]
    assert steps(after=ids[0], inclusive=True) == [1, 2, 3]
    assert steps(after=ids[2]) == []


def test_of_many_tasks_events_the_newest_are_read() -> None:
    tasks = [uuid4() for _ in range(progress.MAX_EVENTS // 2)]
    for step in (1, 2, 3):
        progress.publish_event(tasks[0], "progress", {"step": step})
    trail = progress.read_streams(tasks, after="0-0", inclusive=True)[tasks[0]]
    assert [event.data["step"] for event in trail.since] == [2, 3]


def test_the_stream_is_capped() -> None:
    task_id = uuid4()
    for step in range(progress.MAX_EVENTS + 300):
        progress.publish_event(task_id, "progress", {"step": step})
    assert progress.client.xlen(progress.events_key(task_id)) < progress.MAX_EVENTS + 200


def test_while_redis_is_away_progress_is_dropped_at_once_and_nobody_waits_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=None)  # type: ignore[arg-type]
    monkeypatch.setattr(progress, "_publish_script", nowhere.register_script("return 1"))
    progress.publish_event(uuid4(), "progress", {"step": 1})
    assert progress._breaker_open_until > time.monotonic()
    assert progress._read_latest([uuid4()]) == {}
    assert progress.read_streams([uuid4()]) == {}
