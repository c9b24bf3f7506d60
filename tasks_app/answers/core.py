"""Serialization of the members that a task has in the API and in webhooks."""

from __future__ import annotations

from tasks_app import errors
from tasks_app.answers.task import TaskCore, TaskError
from tasks_app.models import Task


def serialize_task_core(task: Task) -> TaskCore:
    """Return the members that need nothing but the task's row."""
    return {
        "id": str(task.pk),
        "task_type": task.task_type,
        "status": task.status,
        "model": {"id": task.model_id, "revision": task.revision or None},
        "error": _serialize_error(task),
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "retried_from": str(task.retried_from_id) if task.retried_from_id else None,
    }


def _serialize_error(task: Task) -> TaskError | None:
    if not task.error_code:
        return None
    retryable = errors.RETRYABLE[task.error_code]
    return {"code": task.error_code, "message": task.error_message, "retryable": retryable}
