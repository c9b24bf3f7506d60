"""What streams read of tasks."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest
from django.db import connection

from tasks_app.access import permissions
from tasks_app.api.live.states import TaskState, find_visible_ids, get_task_states, read_async, read_blocking
from tasks_app.events import progress
from tasks_app.models import Status, Task
from tests.support.acting import ScriptedWorker

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_state_is_the_row_and_live_progress_where_that_is_ahead(make_task: Callable[..., Task]) -> None:
    running, queued, nowhere = make_task(priority=1), make_task(), uuid4()
    worker = ScriptedWorker(running)
    found = get_task_states([running.pk, queued.pk, nowhere])
    loading: dict[str, object] = {
        "attempt": 1,
        "phase": "loading",
        "step": 0,
        "total_steps": 4,
        "percent": 0,
        "eta_seconds": None,
    }
    assert list(found.values()) == [
        TaskState(task_id=running.pk, status=Status.RUNNING, attempt=1, progress=loading),
        TaskState(task_id=queued.pk, status=Status.QUEUED, queue_position=1),
        TaskState(task_id=nowhere),
    ]
    worker.publish_step(2)
    ahead = get_task_states([running.pk])[running.pk].progress
    assert ahead is not None
    assert (ahead["phase"], ahead["step"]) == ("denoising", 2)
    worker.send_heartbeat(3)
    progress.client.delete(progress.progress_key(running.pk))
    recorded = get_task_states([running.pk])[running.pk].progress
    assert recorded is not None
    assert recorded["step"] == 3
    assert find_visible_ids([running.pk, nowhere], permissions.ANONYMOUS) == {running.pk}


def test_readers_hold_a_connection_only_while_they_read(make_task: Callable[..., Task]) -> None:
    task = make_task()

    def read() -> bool:
        held = connection.connection is not None
        assert find_visible_ids([task.pk], permissions.ANONYMOUS)
        return held

    async def several() -> list[bool]:
        return list(await asyncio.gather(*(read_async(read) for _ in range(6))))

    assert not any(asyncio.run(several()))
    assert not any(read_blocking(read) for _ in range(4))
