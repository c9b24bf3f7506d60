"""Status events of tasks, all of which are published here, and counters of ended tasks for /metrics.

The counters are one hash in Redis, so that all processes share them and reading them takes the same time with any
number of tasks. They restart from zero if Redis loses its data, and miss tasks that end while Redis is unavailable.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection
from redis import RedisError

from tasks_app.events import progress
from tasks_app.models import TERMINAL, Status, Task

logger = logging.getLogger(__name__)

COUNTERS_KEY = "metrics:ended"
# Upper bounds in seconds for waits and runs; values above the last bound have a bucket of their own.
HISTOGRAM_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
# The columns needed to count a task, in the order of `_build_increments`; the ORM took four times as long.
_SELECT_ENDED = f"""
SELECT status, model_id, error_code, created_at, started_at, finished_at FROM {Task._meta.db_table} WHERE id = %s
"""

# One command for all counters of a run, since every single command would have to be packed and parsed.
_increment_script = progress.client.register_script("""
for at = 1, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[at], ARGV[at + 1]) end
""")

Counters = dict[tuple[str, ...], float]
_Increment = tuple[tuple[str, ...], float]


def publish_status(task_id: UUID, status: Status, **more: int) -> None:
    """Publish the status of a task, and count the task if it has ended."""
    progress.publish_event(task_id, "status", {"status": status, **more})
    if status in TERMINAL and progress.is_redis_available():
        _count_task(task_id)


def publish_running(attempts: Mapping[UUID, int]) -> None:
    """Publish the status `running` of tasks, given their attempts by task id."""
    told = {task_id: {"status": Status.RUNNING, "attempt": attempt} for task_id, attempt in attempts.items()}
    progress.publish_events("status", told)


def publish_succeeded(finished_at: Mapping[Task, datetime]) -> None:
    """Publish the success of claimed tasks and count them, without reading their rows again."""
    told = {task.pk: {"status": Status.SUCCEEDED, "attempt": task.attempt} for task in finished_at}
    progress.publish_events("status", told)
    if told and progress.is_redis_available():
        runs = (
            _build_increments(Status.SUCCEEDED, task.model_id, "", task.created_at, task.started_at, moment)
            for task, moment in finished_at.items()
        )
        _add_increments(chain.from_iterable(runs))


def read_counters() -> Counters | None:
    """Return all counters by name and labels; None while Redis is unavailable.

    The names: `ended` (status, model), `failures` (code, model), and of tasks that succeeded `wait` and `run` (model,
    index of the bucket), `wait_sum` and `run_sum` (model).
    """
    if not progress.is_redis_available():
        return None
    try:
        found = progress.client.hgetall(COUNTERS_KEY)
    except RedisError as error:
        progress.trip_breaker(error)
        return None
    return {tuple(json.loads(field)): float(value) for field, value in found.items()}


def _count_task(task_id: UUID) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SELECT_ENDED, [task_id])
            row = cursor.fetchone()
    except (OperationalError, InterfaceError) as error:
        logger.warning("Task %s: not counted in the metrics: %s", task_id, type(error).__name__)
        connection.close()
        return
    if row is not None:
        _add_increments(_build_increments(*row))


def _build_increments(
    status: str, model_id: str, code: str, created_at: datetime, started_at: datetime | None, finished_at: datetime
) -> Iterator[_Increment]:
    yield ("ended", status, model_id), 1
    if status == Status.FAILED:
        yield ("failures", code, model_id), 1
    if status == Status.SUCCEEDED and started_at:
        for name, span in (("wait", started_at - created_at), ("run", finished_at - started_at)):
            seconds = span.total_seconds()
            yield (name, model_id, str(bisect_left(HISTOGRAM_BUCKETS, seconds))), 1
            yield (f"{name}_sum", model_id), seconds


def _add_increments(increments: Iterable[_Increment]) -> None:
    added = [each for labels, value in increments for each in (json.dumps(labels), value)]
    try:
        _increment_script(keys=[COUNTERS_KEY], args=added)
    except RedisError as error:
        progress.trip_breaker(error)
