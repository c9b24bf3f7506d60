"""Live progress in Redis."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis

from tasks_app import progress

Events = Callable[..., list[tuple[str, dict[str, Any]]]]


def test_the_latest_progress_and_every_event_are_kept_as_json(events: Events) -> None:
    task_id = uuid4()
    for step in (1, 2):
        progress.publish(task_id, "progress", {"step": step})
    progress.publish(task_id, "status", {"status": "succeeded"})
    assert progress._latest([task_id, uuid4()]) == {task_id: {"step": 2}}
    assert events(task_id) == [
        ("progress", {"step": 1}),
        ("progress", {"step": 2}),
        ("status", {"status": "succeeded"}),
    ]


def test_both_keys_expire(settings: Any) -> None:
    settings.PROGRESS_TTL_SECONDS = 100
    task_id = uuid4()
    progress.publish(task_id, "progress", {"step": 1})
    for key in (progress.progress_key(task_id), progress.events_key(task_id)):
        assert 90 < progress.client.ttl(key) <= 100


def test_the_stream_is_capped() -> None:
    task_id = uuid4()
    for step in range(progress.MAX_EVENTS + 300):
        progress.publish(task_id, "progress", {"step": step})
    assert progress.client.xlen(progress.events_key(task_id)) < progress.MAX_EVENTS + 200


def test_while_redis_is_away_progress_is_dropped_at_once_and_nobody_waits_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=None)
    monkeypatch.setattr(progress, "_publish", nowhere.register_script("return 1"))
    progress.publish(uuid4(), "progress", {"step": 1})
    assert progress._silent_until > time.monotonic()
    assert progress._latest([uuid4()]) == {}
