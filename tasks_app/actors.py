"""The Dramatiq actor. Its message is a wake-up: it names a task, but lets the worker take the best one."""

from __future__ import annotations

from functools import partial

import dramatiq

from tasks_app.queue import dispatch
from tasks_app.worker import supervisor


@dramatiq.actor(actor_name=dispatch.ACTOR, queue_name=dispatch.QUEUE)
def generate(task_id: str) -> None:
    """Run what is claimable, unless this worker is to end; while there is more, others are woken for it."""
    wake_others = partial(dispatch.notify_workers, worker=supervisor.WORKER_NAME)
    # Not one task a message: the next one is claimed while the last decodes, which no message could be in time for.
    supervisor.run_until_idle(begun=wake_others)
    wake_others()
