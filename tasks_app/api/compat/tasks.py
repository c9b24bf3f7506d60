"""Shared code of the compatibility APIs: parse a body, submit the task, defer the response until it has ended."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app import errors, services
from tasks_app.api.http.authentication import get_principal
from tasks_app.api.http.error_bodies import adapt_error_body, build_error_body
from tasks_app.api.http.exceptions import DATABASE_UNAVAILABLE
from tasks_app.api.http.idempotency import parse_idempotency_key
from tasks_app.api.live.prefer_wait import Wait, defer_response
from tasks_app.contracts import Submission
from tasks_app.fields import StrictSerializer, get_field_errors
from tasks_app.images import storage
from tasks_app.models import TERMINAL, Status, Task, TaskImage
from tasks_app.submissions import SubmissionSerializer

# HTTP statuses for failed tasks by error code; 500 for all other codes.
STATUS_BY_CODE = {
    errors.InvalidParamsError.code: 400,
    errors.TaskCanceledError.code: 409,
    errors.ModelUnavailableError.code: 503,
    errors.OutOfMemoryError.code: 503,
    errors.TaskTimeoutError.code: 504,
}


class UnsupportedField(serializers.Field[Any, Any, Any, Any]):
    """Field of a feature that this server does not support; rejected unless its value is empty."""

    default_error_messages = {"unsupported": "Not supported by this server; omit it."}

    def __init__(self) -> None:
        super().__init__(required=False, allow_null=True)

    def to_internal_value(self, data: Any) -> Any:
        """Return the value unchanged."""
        if data and data not in ("None", "none"):
            self.fail("unsupported")
        return data


class CompatSerializer(StrictSerializer):
    """Request body for a task; `field_names` maps parameters to their names in the body where these differ."""

    field_names: ClassVar[Mapping[str, str]] = {}

    _submission_serializer: SubmissionSerializer

    def build_params(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters in the format of `POST /task`, without those that this serializer rejects itself."""
        raise NotImplementedError

    def find_conflicts(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the errors of fields that conflict with others, by field."""
        return {}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the validated values; errors use the names that fields have in the body."""
        found: dict[str, Any] = {}
        values: dict[str, Any] = {}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            found = get_field_errors(error)
        if isinstance(data, dict):
            found = self.find_conflicts(data) | found
            self._submission_serializer = SubmissionSerializer(
                data={"task_type": "text-to-image", "params": self.build_params(data)}
            )
            for name, told in (
                {} if self._submission_serializer.is_valid() else self._submission_serializer.errors["params"]
            ).items():
                found.setdefault(self.field_names.get(name, name), told)
        if found:
            raise serializers.ValidationError(found)
        return values

    def build_submission(self) -> Submission:
        """Return the submission of the task."""
        return self._submission_serializer.build_submission()


def pick_params(data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters that a body has under these names; null means the default and is left out."""
    return {ours: data[theirs] for ours, theirs in names.items() if data.get(theirs) is not None}


def submit_and_wait(request: Request, submission: Submission, succeeded: Callable[[Task], Any]) -> Response:
    """Queue the task and defer the response until it has ended.

    The body is the result of `succeeded` for a task that succeeded, else an error.
    """
    task, _ = services.submit_task(
        submission, caller=get_principal(request), once=parse_idempotency_key(request, request.data)
    )
    wait = Wait(
        task_id=task.pk,
        seconds=settings.COMPAT_TIMEOUT_SECONDS,
        render=partial(_build_final_response, request, succeeded=succeeded),
        fallback=_build_error_response(request, 503, "unavailable", DATABASE_UNAVAILABLE),
    )
    # The openai package retries server errors, and each retry would create another task.
    return defer_response(Response(status=202, headers={"x-should-retry": "false"}), wait)


def encode_image(image: TaskImage) -> str:
    """Return an image's file in Base64.

    Raises:
        FileNotFoundError: the file is missing.
        StorageError: the file can't be read.
    """
    return base64.b64encode(storage.read_file(str(image.file.name))).decode()


def _build_final_response(request: Request, task: Task, *, succeeded: Callable[[Task], Any]) -> Response:
    if task.status not in TERMINAL:
        return _build_timeout_response(request, task)
    if task.status != Status.SUCCEEDED:
        return _build_error_response(
            request, STATUS_BY_CODE.get(task.error_code, 500), task.error_code, task.error_message
        )
    try:
        return Response(succeeded(task))
    except FileNotFoundError:
        return _build_error_response(request, 410, "gone", "The images are no longer available.")
    except errors.StorageError as error:
        return _build_error_response(request, 503, error.code, str(error))


def _build_timeout_response(request: Request, task: Task) -> Response:
    seconds = f"{settings.COMPAT_TIMEOUT_SECONDS:g} seconds"
    message = f"The task {task.pk} did not finish within {seconds}; it continues in the background."
    return _build_error_response(request, 504, "wait_timeout", message)


def _build_error_response(request: Request, status: int, code: str, message: str) -> Response:
    body = build_error_body(code, message, retryable=errors.RETRYABLE.get(code, False))
    return Response(adapt_error_body(request.path, status, body), status=status)
