"""Live events in Redis: latest progress, latest preview and event stream of each task, as JSON. No row depends on it.

`task:{id}:progress` is the latest progress, `task:{id}:preview` the latest preview; `task:{id}:events` is a capped
stream whose entries have the fields `event` and `data`. All keys expire. Every event is also published once to CHANNEL:
the task's id, the entry's id (empty for a preview), the event's name and its data, each on its own line.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks_app.contracts import Event, StreamSlice
from tasks_app.engine.types import percent_done
from tasks_app.models import Phase, Status, Task

logger = logging.getLogger(__name__)

CHANNEL = "task:events"
MAX_EVENTS = 2000
# A preview is useful only while its task runs.
PREVIEW_TTL_SECONDS = 600
# While Redis does not answer, every call would block until its timeout, so none is made for this long.
BREAKER_OPEN_SECONDS = 3.0

# Previews are not added to the stream: they would fill Redis, and only the latest one matters.
_PUBLISH_SCRIPT = """
local channel, event, ttl, most, preview_ttl = unpack(ARGV, 1, 5)
for nth = 0, #KEYS / 3 - 1 do
    local stream, latest, preview = unpack(KEYS, 3 * nth + 1, 3 * nth + 3)
    local id, data = unpack(ARGV, 2 * nth + 6, 2 * nth + 7)
    local entry = ''
    if event == 'preview' then
        redis.call('SET', preview, data, 'EX', preview_ttl)
    else
        entry = redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'event', event, 'data', data)
        redis.call('EXPIRE', stream, ttl)
        if event == 'progress' then redis.call('SET', latest, data, 'EX', ttl) end
    end
    redis.call('PUBLISH', channel, table.concat({id, entry, event, data}, '\\n'))
end
"""
_PHASE_ORDER = ["", *Phase.values]

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
_publish_script = client.register_script(_PUBLISH_SCRIPT)
_breaker_open_until = 0.0


def progress_key(task_id: UUID) -> str:
    """Return the key of a task's latest progress."""
    return f"task:{task_id}:progress"


def events_key(task_id: UUID) -> str:
    """Return the key of a task's event stream."""
    return f"task:{task_id}:events"


def preview_key(task_id: UUID) -> str:
    """Return the key of a task's latest preview."""
    return f"task:{task_id}:preview"


def is_redis_available() -> bool:
    """Return whether Redis may be called; False for a while after a call has failed."""
    return time.monotonic() >= _breaker_open_until


def trip_breaker(error: Exception) -> None:
    """Stop calling Redis for a while.

    Every call would block until its timeout while its caller holds other resources.
    """
    global _breaker_open_until
    _breaker_open_until = time.monotonic() + BREAKER_OPEN_SECONDS
    logger.warning("Redis unavailable, retrying in %s s: %s", BREAKER_OPEN_SECONDS, type(error).__name__)


def publish_event(task_id: UUID, event: str, data: dict[str, Any]) -> None:
    """Publish an event and keep it in the task's stream, as its latest progress or as its latest preview.

    If Redis is unavailable, only the event is lost.
    """
    publish_events(event, {task_id: data})


def publish_events(event: str, data: Mapping[UUID, dict[str, Any]]) -> None:
    """Publish an event of several tasks in one call to Redis; see `publish_event`."""
    if not is_redis_available() or not data:
        return
    keys = [key for task_id in data for key in (events_key(task_id), progress_key(task_id), preview_key(task_id))]
    told = [text for task_id, each in data.items() for text in (str(task_id), json.dumps(each))]
    kept: list[str | int] = [settings.PROGRESS_TTL_SECONDS, MAX_EVENTS, PREVIEW_TTL_SECONDS]
    try:
        _publish_script(keys=keys, args=[CHANNEL, event, *kept, *told])
    except redis.RedisError as error:
        trip_breaker(error)


def parse_message(message: bytes) -> Event:
    """Return the event in a message that was published to CHANNEL."""
    task_id, entry, name, data = message.decode().split("\n", 3)
    return Event(task_id=UUID(task_id), entry=entry, name=name, data=json.loads(data))


def get_live_progress(tasks: Iterable[Task]) -> dict[UUID, dict[str, Any]]:
    """Return the live progress of those running tasks for which Redis is at least as recent as the row.

    It belongs to the row's own attempt. The result is empty while Redis is unavailable.
    """
    running = {task.pk: task for task in tasks if task.status == Status.RUNNING}
    return {task_id: live for task_id, live in _read_latest(list(running)).items() if _is_ahead(live, running[task_id])}


def progress_from_row(task: Task) -> dict[str, Any]:
    """Return the progress stored in a task's row, in the format of the live progress."""
    return {
        "attempt": task.attempt,
        "phase": task.phase,
        "step": task.step,
        "total_steps": task.total_steps,
        "percent": percent_done(task.step, task.total_steps),
        "eta_seconds": None,
    }


def get_progress_rank(progress: Mapping[str, Any]) -> tuple[int, int]:
    """Return a sort key for progress within an attempt; a greater one is further on."""
    return _PHASE_ORDER.index(progress["phase"]), progress["step"]


def read_streams(task_ids: Sequence[UUID], *, after: str = "", inclusive: bool = False) -> dict[UUID, StreamSlice]:
    """Return each task's newest event, its preview and the events after the entry `after`.

    The result is empty while Redis is unavailable. If there are too many events, only the newest are returned, since
    each contains the whole state.
    """
    if not is_redis_available():
        return {}
    since = after if inclusive else f"({after}"
    with client.pipeline(transaction=True) as asked:
        for task_id in task_ids:
            key = events_key(task_id)
            asked.xrevrange(key, count=1)
            asked.get(preview_key(task_id))
            if after:
                asked.xrevrange(key, min=since, count=max(1, MAX_EVENTS // len(task_ids)))
        try:
            answered = asked.execute()
        except redis.RedisError as error:
            trip_breaker(error)
            return {}
    each = len(answered) // len(task_ids)
    return {task_id: _parse_stream(task_id, *answered[each * n : each * (n + 1)]) for n, task_id in enumerate(task_ids)}


def _parse_stream(task_id: UUID, newest: list[Any], preview: bytes | None, since: Sequence[Any] = ()) -> StreamSlice:
    events = [
        Event(task_id=task_id, entry=entry.decode(), name=fields[b"event"].decode(), data=json.loads(fields[b"data"]))
        for entry, fields in [*newest, *since]
    ]
    return StreamSlice(
        newest=events[0] if newest else None,
        since=tuple(reversed(events[len(newest) :])),
        preview=Event(task_id=task_id, name="preview", data=json.loads(preview)) if preview else None,
    )


def _read_latest(ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    if not ids or not is_redis_available():
        return {}
    try:
        values = client.mget([progress_key(task_id) for task_id in ids])
    except redis.RedisError as error:
        trip_breaker(error)
        return {}
    return {task_id: json.loads(value) for task_id, value in zip(ids, values, strict=True) if value}


def _is_ahead(live: dict[str, Any], task: Task) -> bool:
    if live["attempt"] != task.attempt:
        return False
    return get_progress_rank(live) >= get_progress_rank(progress_from_row(task))
