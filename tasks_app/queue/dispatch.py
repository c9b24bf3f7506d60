"""Wake workers: send the actor's message, by the actor's name, so that the web never imports the worker."""

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

# The actor of `tasks_app.actors`, and its queue in Redis.
ACTOR = QUEUE = "generate"


def notify_workers(*, worker: str = "") -> None:
    """Send a message if none waits and a task does that this worker, or any that is not paused, could take."""
    # Every submission sends a message of its own: passing one on beside those would pile them up.
    if get_queue_depth():
        return
    try:
        waiting = lifecycle.find_claimable(worker=worker)
    except (OperationalError, InterfaceError) as error:
        # This worker may be in the middle of a run; the sweeper sends one later.
        logger.warning("No message is passed on: %s", type(error).__name__)
        connection.close()
        return
    if waiting:
        send_wake_up(waiting)


def get_queue_depth() -> int:
    """Return how many messages wait for a worker; 0 while Redis is away."""
    if not progress.is_redis_available():
        return 0
    try:
        return progress.client.llen(f"{settings.DRAMATIQ_NAMESPACE}:{QUEUE}")
    except RedisError as error:
        progress.trip_breaker(error)
        return 0


def send_wake_up(task_id: UUID) -> None:
    """Send a message; without Redis it is the sweeper that sends one later."""
    if not progress.is_redis_available():
        return
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name=QUEUE, actor_name=ACTOR, args=(str(task_id),), kwargs={}, options={}
    )
    try:
        dramatiq.get_broker().enqueue(message)
    except (RedisError, BrokerError) as error:
        progress.trip_breaker(error)
