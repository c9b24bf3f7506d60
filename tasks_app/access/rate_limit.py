"""Rate limits per minute, counted atomically in Redis in one round trip.

Nothing is limited while Redis is unavailable.
"""

from __future__ import annotations

import time

import redis

from tasks_app.events import progress

WINDOW_SECONDS = 60


def consume(name: str, most: int) -> float | None:
    """Count one event; return the seconds until the next window if it exceeds `most` per minute, else None."""
    if not progress.is_redis_available():
        return None
    window, passed = divmod(time.time(), WINDOW_SECONDS)
    key = f"rate:{name}:{int(window)}"
    try:
        with progress.client.pipeline() as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, 2 * WINDOW_SECONDS)
            count, _ = pipeline.execute()
    except redis.RedisError as error:
        progress.trip_breaker(error)
        return None
    return WINDOW_SECONDS - passed if count > most else None
