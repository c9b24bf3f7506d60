"""The endpoints: parse, call a service, answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import catalog, errors, lifecycle, progress, services
from tasks_app.api.serializers import SubmissionSerializer, TaskSerializer
from tasks_app.models import Status, Task, TaskImage


class TaskPages(CursorPagination):
    """Keyset pages, the newest first."""

    ordering = ("-created_at", "-id")
    page_size = 20
    max_page_size = 100
    page_size_query_param = "limit"


def _represent(request: Request, tasks: list[Task]) -> list[dict[str, Any]]:
    queued = [task.pk for task in tasks if task.status == Status.QUEUED]
    context = {
        "request": request,
        "live": progress.ahead(tasks),
        "positions": lifecycle.queue_positions(queued),
    }
    return [TaskSerializer(task, context=context).data for task in tasks]


def _answer(request: Request, task: Task, **options: Any) -> Response:
    return Response(_represent(request, [task])[0], **options)


def _task(task_id: UUID) -> Task:
    return get_object_or_404(Task.objects.prefetch_related("images"), pk=task_id)


class TaskList(APIView):
    """`GET /task` and `POST /task`."""

    def get(self, request: Request) -> Response:
        """List tasks, the newest first; `status` and `model_id` filter."""
        pages = TaskPages()
        tasks = pages.paginate_queryset(self._filtered(request), request, view=self)
        return pages.get_paginated_response(_represent(request, list(tasks or [])))

    def post(self, request: Request) -> Response:
        """Queue a task."""
        serializer = SubmissionSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        answer = _answer(request, services.submit(serializer.submission()), status=201)
        answer["Location"] = f"/task/{answer.data['id']}"
        return answer

    def _filtered(self, request: Request) -> QuerySet[Task]:
        tasks = Task.objects.prefetch_related("images")
        if status := request.query_params.get("status"):
            if status not in Status.values:
                raise ValidationError({"status": [f"Must be one of {', '.join(Status.values)}."]})
            tasks = tasks.filter(status=status)
        if model_id := request.query_params.get("model_id"):
            if "\0" in model_id:
                raise ValidationError({"model_id": ["Must not contain NUL characters."]})
            tasks = tasks.filter(model_id__in={model_id, *_resolved(model_id)})
        return tasks


def _resolved(name: str) -> list[str]:
    try:
        return [catalog.resolve(name)]
    except errors.ModelNotAllowed:
        return []  # a model that is no longer allowed may still have tasks


class TaskDetail(APIView):
    """`GET /task/{id}`."""

    def get(self, request: Request, task_id: UUID) -> Response:
        """Return a task, with live progress while it runs."""
        return _answer(request, _task(task_id))


class TaskCancel(APIView):
    """`POST /task/{id}/cancel`."""

    def post(self, request: Request, task_id: UUID) -> Response:
        """Cancel a task; one that has ended stays as it is."""
        get_object_or_404(Task.objects.only("pk"), pk=task_id)
        services.cancel(task_id)
        return _answer(request, _task(task_id))


class TaskImages(APIView):
    """`GET /task/{id}/images`."""

    def get(self, request: Request, task_id: UUID) -> Response:
        """List a task's pictures."""
        return Response(_represent(request, [_task(task_id)])[0]["images"])


class TaskImageFile(APIView):
    """`GET /task/{id}/images/{index}`."""

    def get(self, request: Request, task_id: UUID, index: int) -> HttpResponse:
        """Return a picture's bytes; they never change."""
        image = get_object_or_404(TaskImage, task_id=task_id, index=index)
        with image.file.open() as file:
            response = HttpResponse(file.read(), content_type=image.content_type)
        response["ETag"] = f'"{image.sha256}"'
        response["Cache-Control"] = "private, max-age=31536000, immutable"
        return response
