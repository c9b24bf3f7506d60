"""The Dramatiq actor. Its message is a wake-up: it names a task, but the worker claims the best one."""

from __future__ import annotations

from functools import partial

import dramatiq

from tasks_app.queue import dispatch
from tasks_app.worker import supervisor


@dramatiq.actor(actor_name=dispatch.ACTOR, queue_name=dispatch.QUEUE)
def generate(task_id: str) -> None:
    """Run claimable tasks, unless this worker is shutting down; wake other workers while there are more."""
    wake_others = partial(dispatch.notify_workers, worker=supervisor.WORKER_NAME)
    # Not one task per message: the next one is claimed while the last decodes, too soon for a message to arrive.
    supervisor.run_until_idle(begun=wake_others)
    wake_others()
