"""Live progress in Redis: the latest state and the event stream of each task, as JSON. The row never depends on it.

`task:{id}:progress` is the latest progress; `task:{id}:events` is a capped stream whose entries have the fields
`event` and `data`. Both expire.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks_app.models import Phase, Status, Task

logger = logging.getLogger(__name__)

MAX_EVENTS = 2000
# While Redis doesn't answer, every call would wait for its timeout: leave it alone for so long.
SILENCE_SECONDS = 3.0

_PUBLISH = """
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'event', ARGV[1], 'data', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
if ARGV[1] == 'progress' then redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3]) end
"""
_PHASES = ["", *Phase.values]

client = redis.Redis(
    connection_pool=redis.BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=32,
        timeout=settings.REDIS_TIMEOUT_SECONDS,
        socket_timeout=settings.REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=settings.REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
)
_publish = client.register_script(_PUBLISH)
_silent_until = 0.0


def progress_key(task_id: UUID) -> str:
    """Return the key of a task's latest progress."""
    return f"task:{task_id}:progress"


def events_key(task_id: UUID) -> str:
    """Return the key of a task's event stream."""
    return f"task:{task_id}:events"


def answers() -> bool:
    """Return whether Redis is to be asked; False for a while after it did not answer."""
    return time.monotonic() >= _silent_until


def leave_alone(error: Exception) -> None:
    """Ask Redis nothing for a while: each question would cost its timeout, and whoever waits holds other things."""
    global _silent_until
    _silent_until = time.monotonic() + SILENCE_SECONDS
    logger.warning("Redis is left alone for %s s: %s", SILENCE_SECONDS, type(error).__name__)


def publish(task_id: UUID, event: str, data: dict[str, Any]) -> None:
    """Append an event to the task's stream; `progress` events are the latest progress too.

    Redis being away costs the event and nothing else.
    """
    if not answers():
        return
    arguments: list[str | int] = [event, json.dumps(data), settings.PROGRESS_TTL_SECONDS, MAX_EVENTS]
    try:
        _publish(keys=[events_key(task_id), progress_key(task_id)], args=arguments)
    except redis.RedisError as error:
        leave_alone(error)


def ahead(tasks: Iterable[Task]) -> dict[UUID, dict[str, Any]]:
    """Return the progress of those running tasks that Redis knows more of than their rows say.

    It is that of the row's own attempt and not behind the row; empty while Redis is away.
    """
    running = {task.pk: task for task in tasks if task.status == Status.RUNNING}
    return {task_id: live for task_id, live in _latest(list(running)).items() if _is_ahead(live, running[task_id])}


def _latest(ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    if not ids or not answers():
        return {}
    try:
        values = client.mget([progress_key(task_id) for task_id in ids])
    except redis.RedisError as error:
        leave_alone(error)
        return {}
    return {task_id: json.loads(value) for task_id, value in zip(ids, values, strict=True) if value}


def _is_ahead(live: dict[str, Any], task: Task) -> bool:
    if live["attempt"] != task.attempt:
        return False
    return (_PHASES.index(live["phase"]), live["step"]) >= (_PHASES.index(task.phase), task.step)
