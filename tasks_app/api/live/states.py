"""Task states for streams, read in separate threads that hold a database connection only while reading."""

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
# Number of threads and database connections for all streams together.
READER_THREADS = 2
_reader_pool = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="streams")
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """State of a task at one moment: its row, and live progress if that is ahead.

    `status` is None if the row no longer exists. `paused` is true while a pause of the queue or of its model holds the
    task back.
    """

    task_id: UUID
    status: Status | None = None
    attempt: int = 0
    progress: dict[str, object] | None = None
    queue_position: int | None = None
    paused: bool = False


def get_task_states(task_ids: Collection[UUID]) -> dict[UUID, TaskState]:
    """Return the tasks' states, with one query, one more if some are queued, and one call to Redis."""
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
    """Return the ids of those tasks that exist and that the caller may see."""
    return set(permissions.filter_visible(Task.objects.filter(pk__in=task_ids), caller).values_list("pk", flat=True))


async def read_async(
    read: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Run a function that reads the database in one of the streams' threads, and return its result.

    Raises:
        OperationalError, InterfaceError: the database is unavailable.
    """
    return await sync_to_async(_read_and_disconnect, thread_sensitive=False, executor=_reader_pool)(
        partial(read, *args, **kwargs)
    )


def read_blocking(
    read: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Do the same as `read_async` from a thread that may block.

    When hundreds of clients reconnect at once, they queue here and not for the connections of the pool, which all
    requests share.
    """
    return _reader_pool.submit(_read_and_disconnect, partial(read, *args, **kwargs)).result()


def _read_and_disconnect(read: Callable[[], _Result]) -> _Result:
    try:
        return read()
    finally:
        connections.close_all()
