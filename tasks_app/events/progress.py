"""Live events in Redis: latest progress, latest preview and event stream of each task, as JSON. No row depends on it.

`task:{id}:progress` is the latest progress, `task:{id}:preview` the latest preview; `task:{id}:events` is a capped
stream whose entries have the fields `event` and `data`. All expire. Whatever is published also goes to CHANNEL, once:
the task's id, the entry's (empty for a preview), the event and its data, each on a line.
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
# A preview is worth something only while its task runs.
PREVIEW_TTL_SECONDS = 600
# While Redis doesn't answer, every call would wait for its timeout: leave it alone for so long.
BREAKER_OPEN_SECONDS = 3.0

# Previews are not appended: they would fill Redis, and only the latest counts.
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
    """Return whether Redis is to be asked; False for a while after it did not answer."""
    return time.monotonic() >= _breaker_open_until


def trip_breaker(error: Exception) -> None:
    """Ask Redis nothing for a while: each question would cost its timeout, and whoever waits holds other things."""
    global _breaker_open_until
    _breaker_open_until = time.monotonic() + BREAKER_OPEN_SECONDS
    logger.warning("Redis is left alone for %s s: %s", BREAKER_OPEN_SECONDS, type(error).__name__)


def publish_event(task_id: UUID, event: str, data: dict[str, Any]) -> None:
    """Tell everybody who watches, and keep it: in the task's stream, as its latest progress or as its latest preview.

    Redis being away costs the event and nothing else.
    """
    publish_events(event, {task_id: data})


def publish_events(event: str, data: Mapping[UUID, dict[str, Any]]) -> None:
    """Tell of several tasks at once, in one call to Redis; see `publish`."""
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
    """Return what was published on CHANNEL."""
    task_id, entry, name, data = message.decode().split("\n", 3)
    return Event(task_id=UUID(task_id), entry=entry, name=name, data=json.loads(data))


def get_live_progress(tasks: Iterable[Task]) -> dict[UUID, dict[str, Any]]:
    """Return the progress of those running tasks that Redis knows more of than their rows say.

    It is that of the row's own attempt and not behind the row; empty while Redis is away.
    """
    running = {task.pk: task for task in tasks if task.status == Status.RUNNING}
    return {task_id: live for task_id, live in _read_latest(list(running)).items() if _is_ahead(live, running[task_id])}


def progress_from_row(task: Task) -> dict[str, Any]:
    """Return the progress that a task's row has, in the shape that the live one is published in."""
    return {
        "attempt": task.attempt,
        "phase": task.phase,
        "step": task.step,
        "total_steps": task.total_steps,
        "percent": percent_done(task.step, task.total_steps),
        "eta_seconds": None,
    }


def get_progress_rank(progress: Mapping[str, Any]) -> tuple[int, int]:
    """Return how far a progress is within its attempt; the greater, the further."""
    return _PHASE_ORDER.index(progress["phase"]), progress["step"]


def read_streams(task_ids: Sequence[UUID], *, after: str = "", inclusive: bool = False) -> dict[UUID, StreamSlice]:
    """Return what Redis has of the tasks, with the events after the entry that is named; empty while it is away.

    Of many events the newest are returned: each tells the whole state.
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
