"""JSON in: a strict submission. JSON out: the task as everyone sees it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.reverse import reverse

from tasks_app import catalog, errors, lifecycle, progress, task_types
from tasks_app.contracts import Submission
from tasks_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY, Status, Task, TaskImage
from tasks_app.strict import StrictChoiceField, StrictIntegerField, StrictSerializer, details

SEEDS = 2**32


class PassedOn(serializers.Field[Any, Any, Any, Any]):
    """A value that another serializer validates."""

    def to_internal_value(self, data: Any) -> Any:
        """Return it as it is."""
        return data


class SubmissionSerializer(StrictSerializer):
    """The body of `POST /task`; every wrong field is reported at once."""

    task_type = StrictChoiceField(sorted({entry.name for entry in task_types.registered()}))
    params = PassedOn()
    priority = StrictIntegerField(min_value=LOWEST_PRIORITY, max_value=HIGHEST_PRIORITY, default=0)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the validated values; `params` by the serializer of its task type and provider."""
        found: dict[str, Any] = {}
        values: dict[str, Any] = {}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            found |= details(error)
        if isinstance(data, dict) and "params" in data:
            params = _params_serializer(data)
            wrong_model = _wrong_model(data["params"])
            if params.is_valid() and not wrong_model:
                values["params"] = params.validated_data
            else:
                found["params"] = {**params.errors, **wrong_model}
        if found:
            raise serializers.ValidationError(found)
        return values

    def submission(self) -> Submission:
        """Return the task to be: defaults filled in, the seed drawn, the model resolved."""
        values = self.validated_data
        params = dict(values["params"])
        provider, requested, seed = params.pop("provider"), params.pop("model_id"), params.pop("seed")
        model = catalog.resolve(requested)
        return Submission(
            task_type=values["task_type"],
            provider=provider,
            requested_model_id=requested,
            model_id=model.model_id,
            revision=model.revision,
            params=params,
            seed=secrets.randbelow(SEEDS) if seed is None else seed,
            priority=values["priority"],
        )


def _params_serializer(data: dict[str, Any]) -> serializers.Serializer[Any]:
    """Return the serializer that fits; where type or provider are wrong, the first one, to say all errors."""
    params = data["params"] if isinstance(data["params"], dict) else {}
    named = data.get("task_type"), params.get("provider", "diffusers")
    entries = task_types.registered()
    entry = next((entry for entry in entries if (entry.name, entry.provider) == named), entries[0])
    return task_types.serializer(entry, data=data["params"])


def _wrong_model(params: Any) -> dict[str, Any]:
    name = params.get("model_id") if isinstance(params, dict) else None
    name = settings.DEFAULT_MODEL_ID if name is None else name
    if not isinstance(name, str) or not name:
        return {}  # refused by the field itself
    try:
        catalog.resolve(name)
    except errors.ModelNotAllowed as error:
        return {"model_id": [serializers.ErrorDetail(str(error), code=error.code)]}
    return {}


def represent(request: Request, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return the tasks' JSON, with live progress and places in the queue."""
    context = {
        "request": request,
        "live": progress.ahead(tasks),
        "positions": lifecycle.queue_positions([task.pk for task in tasks if task.status == Status.QUEUED]),
    }
    return [TaskSerializer(task, context=context).data for task in tasks]


class TaskSerializer(serializers.BaseSerializer[Task]):
    """A task as JSON; the context brings the request, and by task id `live` progress and queue `positions`."""

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
            "seed": image.seed,
            "width": image.width,
            "height": image.height,
            "content_type": image.content_type,
            "sha256": image.sha256,
            "flagged": image.flagged,
            "black": image.black,
        }

    def _error(self, task: Task) -> dict[str, Any] | None:
        if not task.error_code:
            return None
        retryable = errors.RETRYABLE[task.error_code]
        return {"code": task.error_code, "message": task.error_message, "retryable": retryable}

    def _url(self, name: str, task: Task, *more: int) -> str:
        return reverse(name, args=[task.pk, *more], request=self.context["request"])
