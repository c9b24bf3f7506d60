"""State transitions of a task: the only module that writes `status`; its only I/O is SQL.

    queued  -> running                        claim_batch, claim_more
    running -> succeeded | failed | canceled  mark_succeeded, mark_failed, confirm_cancel
    running -> queued                         release_task (on purpose), expire_leases (the worker was silent)
    running -> failed | canceled              expire_leases, fail_overdue
    queued  -> canceled | failed              cancel_task, fail_overdue

Every transition is a guarded UPDATE whose result shows which rows it changed. A worker's writes are fenced by its
claim: once the row has another attempt, or has ended, they change nothing. Times are the database's. `sql.py` has the
statements that the ORM can't express as one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from tasks_app import errors
from tasks_app.contracts import NO_MODELS, Claim, HeartbeatResult, Success, WorkerCapacity
from tasks_app.engine.types import Progress
from tasks_app.models import TERMINAL, ApiKey, Status, Task, TaskAttempt
from tasks_app.queue import claim_order, rows
from tasks_app.queue import sql as sql_statements


def claim_batch(*, worker: str, lease_seconds: float, held: WorkerCapacity = NO_MODELS) -> list[Task]:
    """Claim the best queued task for this worker, followed by others to run in the same call.

    The list is empty if no task is claimable. `held` are the models that the worker has loaded.
    """
    return _run_claim(sql_statements.CLAIM_BATCH, worker, held, lease_seconds=lease_seconds, taken=1)


def claim_more(
    tasks: Sequence[Task], *, worker: str, lease_seconds: float, held: WorkerCapacity = NO_MODELS
) -> list[Task]:
    """Claim more tasks, if there are any, that can run in the same call as those already claimed."""
    beside = {"beside": tasks[0].pk, "taken": len(tasks), "lease_seconds": lease_seconds}
    return _run_claim(sql_statements.CLAIM_MORE, worker, held, **beside)


def renew_leases(claims: Sequence[Claim], progress: Progress, *, lease_seconds: float) -> dict[UUID, HeartbeatResult]:
    """Record the progress of a call, renew its leases and read cancellation requests, in one statement.

    Lost claims are missing from the result.
    """
    ids, attempts = [claim.task_id for claim in claims], [claim.attempt for claim in claims]
    row = [progress.phase, progress.step, progress.total_steps, lease_seconds, ids, attempts]
    return {
        task_id: HeartbeatResult(cancel_requested=cancel_requested, overdue=overdue)
        for task_id, cancel_requested, overdue in _fetch_rows(sql_statements.RENEW_LEASES, row)
    }


def mark_succeeded(made: Sequence[Success]) -> dict[UUID, datetime]:
    """End tasks with their images and return the end times by task id.

    Tasks whose claim is lost or whose cancellation was requested are left out. A call repeated after a commit whose
    reply was lost returns the same result.
    """
    ended: dict[UUID, datetime] = dict(
        _fetch_rows(sql_statements.MARK_SUCCEEDED, [json.dumps([_build_document(one) for one in made])])
    )
    if missing := {(one.claim.task_id, one.claim.attempt) for one in made if one.claim.task_id not in ended}:
        before = Task.objects.filter(pk__in=[task_id for task_id, _ in missing], status=Status.SUCCEEDED)
        for task_id, attempt, finished_at in before.values_list("pk", "attempt", "finished_at"):
            if finished_at and (task_id, attempt) in missing:
                ended[task_id] = finished_at
    return ended


def _build_document(made: Success) -> dict[str, Any]:
    return {
        **asdict(made.claim),
        "task_id": str(made.claim.task_id),
        "revision": made.revision,
        "timings": dict(made.timings),
        "size": dict(made.size),
        "provenance": dict(made.provenance),
        "reproduction": made.reproduction and asdict(made.reproduction),
        "pictures": [asdict(image) | {"file": image.name} for image in made.images],
    }


def mark_failed(claim: Claim, *, code: str, message: str, traceback: str = "") -> bool:
    """End a running task with an error."""
    return _end_tasks(
        _filter_claimed(claim), Status.FAILED, error_code=code, error_message=message, error_traceback=traceback
    )


def confirm_cancel(claim: Claim) -> bool:
    """End a running task whose cancellation was requested."""
    return _end_tasks(
        _filter_claimed(claim).filter(cancel_requested_at__isnull=False),
        Status.CANCELED,
        **_build_cancel_fields("while it ran"),
    )


def release_task(claim: Claim, *, alone: bool = False) -> Status | None:
    """Release a running task on purpose: it keeps its place in the queue, and no lost worker is counted.

    `alone` keeps it out of batches from then on. A task whose cancellation was requested is canceled instead. The
    result is the new status, or None if the claim was lost.
    """
    back: dict[str, Any] = {
        "phase": "",
        "step": 0,
        "worker": "",
        "lease_until": None,
        "started_at": None,
        "updated_at": Now(),
    }
    if alone:
        back["batch_key"] = ""
    with transaction.atomic():
        wanted = _filter_claimed(claim).filter(cancel_requested_at__isnull=True)
        if not wanted.update(status=Status.QUEUED, **back):
            return Status.CANCELED if confirm_cancel(claim) else None
        _close_attempts(
            TaskAttempt.objects.filter(task=claim.task_id, number=claim.attempt), TaskAttempt.Outcome.RELEASED
        )
        return Status.QUEUED


def cancel_task(task_id: UUID) -> Status | None:
    """Cancel a queued task, or ask the worker of a running one to cancel it.

    Return the task's status, or None if it had already ended.
    """
    with transaction.atomic():
        # The lock prevents a claim or a release between the two updates.
        tasks = Task.objects.filter(pk=task_id)
        tasks.select_for_update().first()
        if _end_tasks(tasks.filter(status=Status.QUEUED), Status.CANCELED, **_build_cancel_fields("before it ran")):
            return Status.CANCELED
        asked = Coalesce(F("cancel_requested_at"), Now())
        if tasks.filter(status=Status.RUNNING).update(cancel_requested_at=asked, updated_at=Now()):
            return Status.RUNNING
        return None


def expire_leases() -> list[tuple[UUID, Status]]:
    """Requeue or end every running task whose lease has expired; return each with its new status."""
    messages = [str(errors.WorkerLostError.__doc__), str(errors.TaskCanceledError.__doc__)]
    return [(task_id, Status(status)) for task_id, status in _fetch_rows(sql_statements.EXPIRE_LEASES, messages)]


def fail_overdue() -> list[UUID]:
    """Fail every task whose deadline has passed; the worker of a running one notices at its next heartbeat."""
    overdue = Task.objects.exclude(status__in=TERMINAL).filter(deadline__lt=Now())
    return [
        task_id
        for task_id in overdue.values_list("pk", flat=True)
        if _end_tasks(
            overdue.filter(pk=task_id),
            Status.FAILED,
            error_code=errors.TaskTimeoutError.code,
            error_message=str(errors.TaskTimeoutError.__doc__),
        )
    ]


def change_priority(task_id: UUID, priority: int) -> bool:
    """Change the priority of a queued task; return False if it is no longer queued."""
    return bool(Task.objects.filter(pk=task_id, status=Status.QUEUED).update(priority=priority, updated_at=Now()))


def delete_tasks(*task_ids: UUID) -> bool:
    """Delete the rows of those tasks that have ended; return False if none has."""
    gone, _ = Task.objects.filter(pk__in=task_ids, status__in=TERMINAL).delete()
    return bool(gone)


def find_claimable(*, worker: str = "") -> UUID | None:
    """Return the id of a task that this worker, or without a name any unpaused worker, could claim."""
    found = _fetch_rows(sql_statements.FIND_CLAIMABLE, claim_order.build_parameters(worker, NO_MODELS))
    return found[0][0] if found else None


def mark_woken(*, worker: str, after_seconds: float, limit: int) -> list[UUID]:
    """Mark up to `limit` tasks as woken and return their ids.

    These are tasks that this worker could claim and that have waited for `after_seconds` since their creation or last
    wake-up.
    """
    waited = {"after_seconds": after_seconds, "limit": limit}
    return [
        row[0]
        for row in _fetch_rows(sql_statements.MARK_WOKEN, claim_order.build_parameters(worker, NO_MODELS) | waited)
    ]


def _run_claim(statement: str, worker: str, held: WorkerCapacity, **more: Any) -> list[Task]:
    parameters = claim_order.build_parameters(worker, held) | more
    while True:
        with transaction.atomic():
            tasks = rows.build_tasks(_fetch_rows(statement, parameters))
            # Always in the same order, so that two claims for the same keys don't deadlock.
            if not any(_exceeds_key_limit(key_id) for key_id in sorted({task.key_id for task in tasks if task.key_id})):
                return tasks
            # Another worker claimed a task of the same key at the same time; the next try takes it into account.
            transaction.set_rollback(True)


def _exceeds_key_limit(key_id: int) -> bool:
    """Return whether this claim exceeds a key's limit of running tasks; lock the key until the claim ends."""
    # Other claims for the same key wait here, and count after this transaction has ended.
    key = ApiKey.objects.select_for_update(no_key=True).only("max_running").filter(pk=key_id).first()
    most = settings.MAX_RUNNING_PER_KEY if key is None or key.max_running is None else key.max_running
    return most is not None and Task.objects.filter(key_id=key_id, status=Status.RUNNING).count() > most


def _filter_claimed(claim: Claim) -> QuerySet[Task]:
    return Task.objects.filter(pk=claim.task_id, attempt=claim.attempt, status=Status.RUNNING)


def _end_tasks(tasks: QuerySet[Task], status: Status, **fields: Any) -> bool:
    """End the tasks in the query and close the attempts of those that were running; return whether any ended."""
    ended = {"phase": "", "lease_until": None, "finished_at": Now(), "updated_at": Now()}
    with transaction.atomic():
        attempts = list(tasks.select_for_update().filter(status=Status.RUNNING).values_list("pk", "attempt"))
        moved = bool(tasks.update(status=status, **ended, **fields))
        for task_id, number in attempts:
            _close_attempts(TaskAttempt.objects.filter(task=task_id, number=number), TaskAttempt.Outcome(status))
        return moved


def _close_attempts(attempts: QuerySet[TaskAttempt], outcome: TaskAttempt.Outcome) -> None:
    attempts.filter(ended_at__isnull=True).update(outcome=outcome, ended_at=Now())


def _build_cancel_fields(when: str) -> dict[str, str]:
    return {"error_code": errors.TaskCanceledError.code, "error_message": f"The task was canceled {when}."}


def _fetch_rows(sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())
