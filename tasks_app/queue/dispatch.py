"""Wake-up messages for workers, sent by the actor's name so that the web server never imports the worker."""

from __future__ import annotations

import logging
from uuid import UUID

import dramatiq
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from dramatiq.errors import BrokerError
from redis import RedisError

from tasks_app.events import progress
from tasks_app.queue import lifecycle

logger = logging.getLogger(__name__)

# Name of the actor in `tasks_app.actors` and of its queue in Redis.
ACTOR = QUEUE = "generate"


def notify_workers(*, worker: str = "") -> None:
    """Send a wake-up if none is queued and this worker, or any that is not paused, could claim a task."""
    # Every submission sends a message of its own; more on top of those would pile up.
    if get_queue_depth():
        return
    try:
        waiting = lifecycle.find_claimable(worker=worker)
    except (OperationalError, InterfaceError) as error:
        # Don't fail, since this worker may be in the middle of a run; the sweeper sends a wake-up later.
        logger.warning("Wake-up not forwarded: %s", type(error).__name__)
        connection.close()
        return
    if waiting:
        send_wake_up(waiting)


def get_queue_depth() -> int:
    """Return the number of queued messages; 0 while Redis is unavailable."""
    if not progress.is_redis_available():
        return 0
    try:
        return progress.client.llen(f"{settings.DRAMATIQ_NAMESPACE}:{QUEUE}")
    except RedisError as error:
        progress.trip_breaker(error)
        return 0


def send_wake_up(task_id: UUID) -> None:
    """Send a wake-up for a task; while Redis is unavailable, the sweeper sends one later."""
    if not progress.is_redis_available():
        return
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name=QUEUE, actor_name=ACTOR, args=(str(task_id),), kwargs={}, options={}
    )
    try:
        dramatiq.get_broker().enqueue(message)
    except (RedisError, BrokerError) as error:
        progress.trip_breaker(error)
