"""What streams read of tasks: by threads of their own, which hold a database connection only while they read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connections

from tasks_app.access import permissions
from tasks_app.contracts import Principal, QueuePosition
from tasks_app.events import progress
from tasks_app.models import Status, Task
from tasks_app.queue import position

DATABASE_AWAY = (OperationalError, InterfaceError)
# However many streams are open, they take this many threads and connections.
READER_THREADS = 2
_reader_pool = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="streams")
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """A task at one moment: its row, and live progress where that is ahead; no status when the row is gone.

    `paused` says that it waits for a pause of the queue or of its model to end.
    """

    task_id: UUID
    status: Status | None = None
    attempt: int = 0
    progress: dict[str, object] | None = None
    queue_position: int | None = None
    paused: bool = False


def get_task_states(task_ids: Collection[UUID]) -> dict[UUID, TaskState]:
    """Return the tasks' states, with one query, one more if some are queued, and one question to Redis."""
    fields = ("status", "attempt", "phase", "step", "total_steps")
    tasks = list(Task.objects.filter(pk__in=task_ids).only(*fields))
    live = progress.get_live_progress(tasks)
    queued = [task.pk for task in tasks if task.status == Status.QUEUED]
    standings = position.get_positions(queued)
    if len(standings) < len(queued):
        return get_task_states(task_ids)  # one was claimed or has ended between the two queries
    found = {task.pk: _build_state(task, live.get(task.pk), standings.get(task.pk)) for task in tasks}
    return {task_id: found.get(task_id) or TaskState(task_id=task_id) for task_id in task_ids}


def _build_state(task: Task, live: dict[str, object] | None, stands: QueuePosition | None) -> TaskState:
    return TaskState(
        task_id=task.pk,
        status=Status(task.status),
        attempt=task.attempt,
        progress=live or progress.progress_from_row(task) if task.status == Status.RUNNING else None,
        queue_position=None if stands is None else stands.position,
        paused=stands is not None and stands.is_paused,
    )


def find_visible_ids(task_ids: Collection[UUID], caller: Principal) -> set[UUID]:
    """Return those of the tasks that there are, and that the caller may see."""
    return set(permissions.filter_visible(Task.objects.filter(pk__in=task_ids), caller).values_list("pk", flat=True))


async def read_async(
    read: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Return what a function reads, in one of the streams' threads.

    Raises:
        OperationalError, InterfaceError: the database is away.
    """
    return await sync_to_async(_read_and_disconnect, thread_sensitive=False, executor=_reader_pool)(
        partial(read, *args, **kwargs)
    )


def read_blocking(
    read: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Do the same from a thread that may wait.

    When hundreds of clients come back at once, they queue here, and not for the pool's connections, which are for all.
    """
    return _reader_pool.submit(_read_and_disconnect, partial(read, *args, **kwargs)).result()


def _read_and_disconnect(read: Callable[[], _Result]) -> _Result:
    try:
        return read()
    finally:
        connections.close_all()
