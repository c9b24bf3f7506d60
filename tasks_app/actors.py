"""The Dramatiq actor. Its message is a ticket: a wake-up that names a task, but lets the worker take the best one."""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

import dramatiq
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from dramatiq.errors import BrokerError
from redis import RedisError

from tasks_app import execution, lifecycle, progress

logger = logging.getLogger(__name__)


@dramatiq.actor(queue_name="generate")
def generate(task_id: str) -> None:
    """Run what is claimable, unless this worker is to end; while there is more, others are woken for it."""
    wake_others = partial(pass_on, worker=execution.WORKER)
    # Not one task a ticket: the next one is claimed while the last decodes, which no message could be in time for.
    execution.run_all(begun=wake_others)
    wake_others()


def pass_on(*, worker: str = "") -> None:
    """Send a ticket if none waits and a task does that this worker, or any that is not paused, could take."""
    # Every submission sends a ticket of its own: passing one on beside those would pile them up.
    if tickets():
        return
    try:
        waiting = lifecycle.claimable(worker=worker)
    except (OperationalError, InterfaceError) as error:
        # This worker may be in the middle of a run; the sweeper sends one later.
        logger.warning("No ticket is passed on: %s", type(error).__name__)
        connection.close()
        return
    if waiting:
        wake(waiting)


def tickets() -> int:
    """Return how many tickets wait for a worker; 0 while Redis is away."""
    if not progress.answers():
        return 0
    try:
        return progress.client.llen(f"{settings.DRAMATIQ_NAMESPACE}:{generate.queue_name}")
    except RedisError as error:
        progress.leave_alone(error)
        return 0


def wake(task_id: UUID) -> None:
    """Send a ticket; without Redis it is the sweeper that sends one later."""
    if not progress.answers():
        return
    try:
        generate.send(str(task_id))
    except (RedisError, BrokerError) as error:
        progress.leave_alone(error)
