"""Actions on tasks, models and workers.

The API, the admin and the commands call these functions and none of the layers below.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now

from tasks_app import errors
from tasks_app.catalog import resolve
from tasks_app.contracts import IdempotentRequest, Principal, Submission, Webhook
from tasks_app.engine.types import count_run_steps
from tasks_app.events import status_events
from tasks_app.images import storage, uploads
from tasks_app.models import TERMINAL, Pause, Status, Task, WebhookDelivery, WorkerCommand
from tasks_app.queue import admission, dispatch, lifecycle, pauses
from tasks_app.queue import workers as worker_registry
from tasks_app.task_types import parameters, registry
from tasks_app.webhooks import deliveries

logger = logging.getLogger(__name__)


def submit_task(
    submission: Submission, *, caller: Principal, once: IdempotentRequest | None = None
) -> tuple[Task, bool]:
    """Create a queued task, and wake a worker once the row is committed.

    Return the task and True. With `once`, if the same request was made before, return its task and False.

    Raises:
        IdempotencyKeyReusedError: the name in `once` was used for another request.
        InvalidParamsError: an upload that the task uses has just expired.
        QuotaExceededError: the caller has reached its limit of queued tasks.
    """
    task_id = uuid4()
    # A single INSERT is atomic by itself; idempotency key, quota and uploads must be committed together with it.
    alone = once is None and caller.limits.max_queued is None and not submission.uploads
    with nullcontext() if alone else transaction.atomic():
        before = None if once is None else admission.register_request(once, caller, task_id)
        if before is not None:
            return before, False
        admission.check_queue_quota(caller)
        told = replace(submission, webhook=submission.webhook or caller.webhook)
        task = Task.objects.create(pk=task_id, key_id=caller.key_id, **_build_columns(told))
        if submission.uploads:
            task.uploads.set(uploads.lock_uploads(submission.uploads))
        _notify_on_commit(task.pk)
    _log_queued(task)
    return task, True


def cancel_task(task_id: UUID) -> bool:
    """Cancel a queued task, or ask the worker of a running one to; return False if it had already ended."""
    status = lifecycle.cancel_task(task_id)
    if status == Status.CANCELED:
        status_events.publish_status(task_id, status)
    return status is not None


def retry_task(task: Task, *, key: UUID) -> tuple[Task, bool]:
    """Queue the same request again as a new task; the old row is unchanged.

    The new task's id is derived from the key, so repeating a retry, even concurrently, creates only one task. Return
    the task, and whether this call created it.
    """
    webhook = Webhook(url=task.webhook_url, events=tuple(task.webhook_events)) if task.webhook_url else None
    submission = replace(_clone_request(task), batch_key=task.batch_key, webhook=webhook)
    values = {**_build_columns(submission), "retried_from": task, "key_id": task.key_id}
    new, created = Task.objects.get_or_create(pk=uuid5(key, str(task.pk)), defaults=values)
    if created:
        _log_queued(new)
        new.uploads.set(task.uploads.all())
    _notify_on_commit(new.pk)
    return new, created


def reproduce_task(task: Task, *, caller: Principal, once: IdempotentRequest | None = None) -> tuple[Task, bool]:
    """Queue a succeeded task again, unbatched and with the same model revision, to compare the images.

    The worker compares the new images with the original ones. `once` is used as in `submit_task`.

    Raises:
        NotReproducibleError: the task has not succeeded.
        ModelNotAllowedError: its model is no longer allowed.
        InvalidParamsError: an upload that it uses has expired.
        IdempotencyKeyReusedError, QuotaExceededError: as in `submit_task`.
    """
    if task.status != Status.SUCCEEDED:
        raise errors.NotReproducibleError(str(errors.NotReproducibleError.__doc__))
    resolve.resolve_model(task.model_id)
    return submit_task(replace(_clone_request(task), reproduces=task.pk), caller=caller, once=once)


def set_priority(task_id: UUID, priority: int) -> bool:
    """Set the priority (-10…10) of a queued task; return False if it is no longer queued."""
    return lifecycle.change_priority(task_id, priority)


def delete_task(task: Task) -> bool:
    """Delete a task that has ended, its image files first; return False if it has not ended.

    Raises:
        StorageError: a file could not be removed; the row is kept.
    """
    if task.status not in TERMINAL:
        return False
    storage.delete_files(str(image.file.name) for image in task.images.all())
    return lifecycle.delete_tasks(task.pk)


def pause_claims(scope: Pause.Scope, target: str = "", *, by: User | None = None) -> bool:
    """Stop claims from the whole queue, for a model or by a worker; return False if they were paused before."""
    return pauses.create_pause(scope, target, by=by)


def resume_claims(scope: Pause.Scope, target: str = "") -> bool:
    """End a pause and wake a worker for a waiting task; return False if nothing was paused."""
    resumed = pauses.delete_pause(scope, target)
    waiting = lifecycle.find_claimable()
    if resumed and waiting:
        _notify_on_commit(waiting)
    return resumed


def redeliver_webhook(delivery: WebhookDelivery) -> bool:
    """Deliver a webhook once more, now; return False while it is being sent."""
    return deliveries.requeue_delivery(delivery.pk)


def send_worker_command(
    kind: WorkerCommand.Kind, model_id: str, workers: Iterable[str], *, by: User | None = None
) -> list[WorkerCommand]:
    """Ask workers to load or unload a model; return the commands created for those that can be reached."""
    return worker_registry.enqueue_commands(kind, model_id, workers, by=by)


def _clone_request(task: Task) -> Submission:
    """Return the same request with the revision that was loaded, unbatched and without webhook."""
    return Submission(
        task_type=task.task_type,
        provider=task.provider,
        requested_model_id=task.requested_model_id,
        model_id=task.model_id,
        revision=task.revision,
        params=task.params,
        seed=task.seed,
        priority=task.priority,
        explicit_params=frozenset(task.explicit_params),
        uploads=tuple(
            parameters.get_upload_ids(registry.get_task_type(task.task_type, task.provider), task.params).values()
        ),
        reproduces=task.reproduces_id,
    )


def _build_columns(submission: Submission) -> dict[str, Any]:
    deadline = settings.TASK_DEADLINE_SECONDS
    return {
        "task_type": submission.task_type,
        "provider": submission.provider,
        "requested_model_id": submission.requested_model_id,
        "model_id": submission.model_id,
        "revision": submission.revision,
        "params": dict(submission.params),
        "seed": submission.seed,
        "priority": submission.priority,
        "batch_key": submission.batch_key,
        "explicit_params": sorted(submission.explicit_params),
        "reproduces_id": submission.reproduces,
        "total_steps": count_run_steps(submission.params["steps"], submission.params.get("strength")),
        "max_lost_workers": settings.MAX_LOST_WORKERS,
        "deadline": None if deadline is None else Now() + timedelta(seconds=deadline),
        **_webhook_columns(submission.webhook),
    }


def _log_queued(task: Task) -> None:
    # The only log line with both the request's and the task's id.
    logger.info("Task %s: queued with %s.", task.pk, task.model_id, extra={"task": str(task.pk)})


def _webhook_columns(webhook: Webhook | None) -> dict[str, Any]:
    if webhook is None:
        return {}
    return {"webhook_url": webhook.url, "webhook_events": list(webhook.events), "webhook_due": True}


def _notify_on_commit(task_id: UUID) -> None:
    # Robust: the row is committed, so a wake-up that can't be sent must not fail the request.
    transaction.on_commit(lambda: dispatch.send_wake_up(task_id), robust=True)
