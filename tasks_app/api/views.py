"""Endpoints for tasks: parse the request, call a service, build the response."""

from __future__ import annotations

import re
from datetime import UTC
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import answers, errors, services
from tasks_app.access import permissions
from tasks_app.api.http import signed_urls
from tasks_app.api.http.authentication import get_principal
from tasks_app.api.http.idempotency import parse_idempotency_key
from tasks_app.api.live import prefer_wait
from tasks_app.api.openapi.describe import build_headers, build_list_response, build_parameters, build_response
from tasks_app.api.openapi.submissions import SUBMISSIONS
from tasks_app.api.serializers import annotate_images, get_images, serialize_tasks
from tasks_app.catalog import resolve
from tasks_app.models import Scope, Status, Task
from tasks_app.submissions import SubmissionSerializer

QUEUED_HEADERS = [
    *build_headers("Location", "Preference-Applied", status=201),
    *build_headers("Location", "Idempotency-Replayed", "Preference-Applied", status=200),
]
QUEUED_RESPONSES = {
    201: build_response(answers.Task, "The new task; with `Prefer: wait=N`, as it is after the wait."),
    200: build_response(answers.Task, "The task that the same request created before."),
}
_NUMBER_PATTERN = re.compile(r"[0-9]{1,9}")


class TaskPagination(CursorPagination):
    """Keyset pagination, newest tasks first."""

    ordering = ("-created_at", "-id")
    page_size = 20
    max_page_size = 100
    page_size_query_param = "limit"

    def get_page_size(self, request: Request) -> int:
        """Return the number of tasks per page.

        Raises:
            ValidationError: `limit` is out of range or not a number; DRF would silently ignore the latter.
        """
        text = request.query_params.get(self.page_size_query_param)
        if text is None:
            return self.page_size
        if not _NUMBER_PATTERN.fullmatch(text) or not 1 <= int(text) <= self.max_page_size:
            raise ValidationError({"limit": [f"Must be an integer between 1 and {self.max_page_size}."]})
        return int(text)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the cursor.

        Raises:
            NotFound: this server did not issue the cursor, for example because its position is not a time.
        """
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None and not _is_time(str(cursor.position)):
            raise NotFound(self.invalid_cursor_message)
        return cursor


def _is_time(text: str) -> bool:
    try:
        time = parse_datetime(text)
        return time is not None and time.astimezone(UTC) is not None
    except (ValueError, OverflowError):  # converted to UTC, the time is in the year 0 or 10,000
        return False


def _task_response(request: Request, task: Task, **options: Any) -> Response:
    return Response(serialize_tasks(request, [task])[0], **options)


def _queued_response(request: Request, task: Task, new: bool) -> Response:
    """Return the response for a new or replayed task, deferred if the client sent `Prefer: wait`."""
    headers = {"Location": reverse("task", args=[task.pk])}
    if not new:
        headers["Idempotency-Replayed"] = "true"
        task = get_object_or_404(annotate_images(Task.objects.all()), pk=task.pk)
    seconds = prefer_wait.parse_prefer_wait(request)
    if seconds is None:
        return _task_response(request, task, status=201 if new else 200, headers=headers)
    headers["Preference-Applied"] = f"wait={seconds}"
    answer = _task_response(request, task, status=201 if new else 200, headers=headers)
    renew = partial(_task_response, request, status=answer.status_code)
    return prefer_wait.defer_response(answer, prefer_wait.Wait(task_id=task.pk, seconds=seconds, render=renew))


def _get_visible_task(request: Request, task_id: UUID) -> Task:
    """Return a task that the caller may see; hidden and missing tasks both result in 404."""
    tasks = permissions.filter_visible(annotate_images(Task.objects.all()), get_principal(request))
    return get_object_or_404(tasks, pk=task_id)


class TaskListView(APIView):
    """`GET /task` and `POST /task`."""

    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(
        operation_id="listTasks",
        tags=["tasks"],
        parameters=build_parameters("status", "model_id", "limit", "cursor"),
        responses={200: build_response(answers.TaskPage, "A page of tasks."), 404: None},
    )
    def get(self, request: Request) -> Response:
        """List tasks, newest first, optionally filtered by `status` and `model_id`."""
        pages = TaskPagination()
        tasks = pages.paginate_queryset(self._filter_tasks(request), request, view=self)
        return pages.get_paginated_response(serialize_tasks(request, list(tasks or [])))

    @extend_schema(
        operation_id="submitTask",
        tags=["tasks"],
        description='Types are strict: `true`, `"25"` and `25.0` are not integers. The response names all errors.',
        parameters=[*build_parameters("Idempotency-Key", "Prefer"), *QUEUED_HEADERS],
        request=SubmissionSerializer,
        responses={**QUEUED_RESPONSES, 422: None},
        examples=SUBMISSIONS,
    )
    def post(self, request: Request) -> Response:
        """Queue a task, only once per `Idempotency-Key`; `Prefer: wait=N` defers the response until it ends."""
        named = parse_idempotency_key(request, request.data)
        serializer = SubmissionSerializer(data=request.data, context={"caller": get_principal(request), "meant": True})
        serializer.is_valid(raise_exception=True)
        return _queued_response(
            request, *services.submit_task(serializer.build_submission(), caller=get_principal(request), once=named)
        )

    def _filter_tasks(self, request: Request) -> QuerySet[Task]:
        tasks = permissions.filter_visible(annotate_images(Task.objects.all()), get_principal(request))
        if (status := request.query_params.get("status")) is not None:
            if status not in Status.values:
                raise ValidationError({"status": [f"Must be one of {', '.join(Status.values)}."]})
            tasks = tasks.filter(status=status)
        if (model_id := request.query_params.get("model_id")) is not None:
            if "\0" in model_id:
                raise ValidationError({"model_id": ["Must not contain NUL characters."]})
            tasks = tasks.filter(model_id__in={model_id, *_resolve_model_ids(model_id)})
        return tasks


def _resolve_model_ids(name: str) -> list[str]:
    try:
        return [resolve.resolve_model(name).model_id]
    except errors.ModelNotAllowedError:
        return []  # a model that is no longer allowed may still have tasks


class TaskDetailView(APIView):
    """`GET /task/{id}`."""

    @extend_schema(operation_id="getTask", tags=["tasks"], responses={200: build_response(answers.Task, "The task.")})
    def get(self, request: Request, task_id: UUID) -> Response:
        """Return a task, with live progress while it runs."""
        return _task_response(request, _get_visible_task(request, task_id))


class TaskCancelView(APIView):
    """`POST /task/{id}/cancel`."""

    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(
        operation_id="cancelTask",
        tags=["tasks"],
        description="A queued task ends immediately, a running one within its current step.",
        request=None,
        responses={200: build_response(answers.Task, "The task, whatever its status was.")},
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        """Cancel a task; a task that has ended stays unchanged."""
        get_object_or_404(permissions.filter_cancelable(Task.objects.only("pk"), get_principal(request)), pk=task_id)
        services.cancel_task(task_id)
        return _task_response(request, get_object_or_404(annotate_images(Task.objects.all()), pk=task_id))


class TaskReproduceView(APIView):
    """`POST /task/{id}/reproduce`."""

    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(
        operation_id="reproduceTask",
        tags=["tasks"],
        description="With the same parameters, seed and commit. When it has ended, `reproduction` has the comparison.",
        parameters=[*build_parameters("Idempotency-Key", "Prefer"), *QUEUED_HEADERS],
        request=None,
        responses={**QUEUED_RESPONSES, 409: None, 422: None},
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        """Queue a succeeded task again to compare the images; supports the headers of `POST /task`."""
        named = parse_idempotency_key(request, {"reproduces": str(task_id)})
        task = get_object_or_404(permissions.filter_repeatable(Task.objects.all(), get_principal(request)), pk=task_id)
        return _queued_response(request, *services.reproduce_task(task, caller=get_principal(request), once=named))


class TaskImagesView(APIView):
    """`GET /task/{id}/images`."""

    @extend_schema(
        operation_id="listImages",
        tags=["images"],
        responses={200: build_list_response(answers.Image, "The images; none before the task has succeeded.")},
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        """List a task's images."""
        return Response(serialize_tasks(request, [_get_visible_task(request, task_id)])[0]["images"])


class TaskLinksView(APIView):
    """`GET /task/{id}/links`."""

    @extend_schema(
        operation_id="signLinks", tags=["images"], responses={200: build_response(answers.Links, "The URLs.")}
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        """Return signed URLs that need no key for a while, for an EventSource, an `<img>` or to share."""
        task = _get_visible_task(request, task_id)
        images = [
            signed_urls.build_signed_url(request, "task-image", task.pk, image["index"]) for image in get_images(task)
        ]
        events = signed_urls.build_signed_url(request, "task-events", task.pk)
        answer: answers.Links = {"events": events, "images": images}
        return Response(answer)
