"""What people can do to tasks: the API, the admin and the commands call these and nothing below."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from tasks_app import actors, lifecycle, progress
from tasks_app.contracts import Submission
from tasks_app.models import Status, Task


def submit(submission: Submission, *, retried_from: Task | None = None) -> Task:
    """Create a queued task and wake a worker for it once the row is committed."""
    deadline = settings.TASK_DEADLINE_SECONDS
    task = Task.objects.create(
        task_type=submission.task_type,
        provider=submission.provider,
        requested_model_id=submission.requested_model_id,
        model_id=submission.model_id,
        revision=submission.revision,
        params=dict(submission.params),
        seed=submission.seed,
        priority=submission.priority,
        total_steps=submission.params["steps"],
        max_attempts=settings.MAX_ATTEMPTS,
        deadline=None if deadline is None else Now() + timedelta(seconds=deadline),
        retried_from=retried_from,
    )
    # Robust: a ticket that can't be sent must not turn a committed row into an error.
    transaction.on_commit(lambda: actors.wake(task.pk), robust=True)
    return task


def cancel(task_id: UUID) -> bool:
    """Cancel a queued task, or ask the worker of a running one to; False when it had ended before."""
    status = lifecycle.cancel(task_id)
    if status == Status.CANCELED:
        progress.publish(task_id, "status", {"status": status})
    return status is not None


def retry(task: Task) -> Task:
    """Queue the same request again as a new task; the old row stays as it is."""
    return submit(
        Submission(
            task_type=task.task_type,
            provider=task.provider,
            requested_model_id=task.requested_model_id,
            model_id=task.model_id,
            revision=task.revision,
            params=task.params,
            seed=task.seed,
            priority=task.priority,
        ),
        retried_from=task,
    )
