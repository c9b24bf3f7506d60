"""JSON out: the task as everyone sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.reverse import reverse

from tasks_app import errors, lifecycle, pauses, progress
from tasks_app.models import Status, Task, TaskImage


def represent(request: Request, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return the tasks' JSON, with live progress and places in the queue."""
    queued = [task.pk for task in tasks if task.status == Status.QUEUED]
    context = {
        "request": request,
        "live": progress.ahead(tasks),
        "positions": lifecycle.queue_positions(queued),
        "pauses": pauses.active() if queued else set(),
    }
    return [TaskSerializer(task, context=context).data for task in tasks]


class TaskSerializer(serializers.BaseSerializer[Task]):
    """A task as JSON; the context brings the request, and by task id `live` progress and queue `positions`.

    `pauses` are the scopes and targets that are paused.
    """

    def to_representation(self, instance: Task) -> dict[str, Any]:
        """Return the JSON."""
        task = instance
        return {
            "id": str(task.pk),
            "task_type": task.task_type,
            "status": task.status,
            "priority": task.priority,
            "params": self._params(task),
            "model": {"id": task.model_id, "revision": task.revision or None},
            "progress": self._progress(task),
            "queue_position": self.context["positions"].get(task.pk),
            "paused": pauses.holds(task, self.context["pauses"]),
            "attempt": task.attempt,
            "images": [self._image(task, image) for image in task.images.all()],
            "error": self._error(task),
            "created_at": task.created_at,
            "started_at": task.started_at,
            "finished_at": task.finished_at,
            "timings": task.timings,
            "retried_from": task.retried_from_id and str(task.retried_from_id),
            "urls": {
                "self": self._url("task", task),
                "events": self._url("task-events", task),
                "cancel": self._url("task-cancel", task),
                "images": self._url("task", task) + "/images",
            },
        }

    def _params(self, task: Task) -> dict[str, Any]:
        return {
            "provider": task.provider,
            "model_id": task.requested_model_id,
            **task.params,
            "seed": task.seed,
        }

    def _progress(self, task: Task) -> dict[str, Any]:
        known = progress.recorded(task) | self.context["live"].get(task.pk, {})
        return {name: value or None if name == "phase" else value for name, value in known.items() if name != "attempt"}

    def _image(self, task: Task, image: TaskImage) -> dict[str, Any]:
        return {
            "index": image.index,
            "url": self._url("task-image", task, image.index),
            "thumbnail_url": self._url("task-thumbnail", task, image.index),
            "seed": image.seed,
            "width": image.width,
            "height": image.height,
            "content_type": image.content_type,
            "sha256": image.sha256,
            "flagged": image.flagged,
            "black": image.black,
            "purged": image.purged_at is not None,
        }

    def _error(self, task: Task) -> dict[str, Any] | None:
        if not task.error_code:
            return None
        retryable = errors.RETRYABLE[task.error_code]
        return {"code": task.error_code, "message": task.error_message, "retryable": retryable}

    def _url(self, name: str, task: Task, *more: int) -> str:
        return reverse(name, args=[task.pk, *more], request=self.context["request"])
