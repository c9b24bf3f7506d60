"""The Dramatiq actor. Its message is a ticket: a wake-up that names a task, but lets the worker take the best one."""

from __future__ import annotations

from uuid import UUID

import dramatiq
from django.conf import settings
from dramatiq.errors import BrokerError
from redis import RedisError

from tasks_app import execution, lifecycle, progress


@dramatiq.actor(queue_name="generate")
def generate(task_id: str) -> None:
    """Run the best claimable task, unless this worker is to end, and pass the ticket on while there are more."""
    execution.run_next(save=execution.beside_the_next)
    pass_on(worker=execution.WORKER)


def pass_on(*, worker: str = "") -> None:
    """Send a ticket if none waits and a task does that this worker, or any that is not paused, could take."""
    # Every submission sends a ticket of its own: passing one on beside those would pile them up.
    if not tickets() and (waiting := lifecycle.claimable(worker=worker)):
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
