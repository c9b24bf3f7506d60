"""The endpoints: parse, call a service, answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.dateparse import parse_datetime
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import access, catalog, errors, services, storage, uploads
from tasks_app.api import signing, waiting
from tasks_app.api.authentication import caller
from tasks_app.api.idempotency import once
from tasks_app.api.negotiation import AnyAccepted
from tasks_app.api.parsers import JPEGParser, PNGParser, WebPParser
from tasks_app.api.serializers import pictured, pictures, represent
from tasks_app.models import Scope, Status, Task, TaskImage
from tasks_app.submissions import SubmissionSerializer, recovered

_NUMBER = re.compile(r"[0-9]{1,9}")


class TaskPages(CursorPagination):
    """Keyset pages, the newest first."""

    ordering = ("-created_at", "-id")
    page_size = 20
    max_page_size = 100
    page_size_query_param = "limit"

    def get_page_size(self, request: Request) -> int:
        """Return how many tasks a page has; DRF would take what is no number for nothing said."""
        text = request.query_params.get(self.page_size_query_param)
        if text is None:
            return self.page_size
        if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= self.max_page_size:
            raise ValidationError({"limit": [f"Must be an integer between 1 and {self.max_page_size}."]})
        return int(text)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the cursor; one whose position is no time never came from here."""
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None and not _is_time(str(cursor.position)):
            raise NotFound(self.invalid_cursor_message)
        return cursor


def _is_time(text: str) -> bool:
    try:
        time = parse_datetime(text)
        return time is not None and time.astimezone(UTC) is not None
    except (ValueError, OverflowError):  # a time of the year 0 or 10,000 once it is in UTC
        return False


def _answer(request: Request, task: Task, **options: Any) -> Response:
    return Response(represent(request, [task])[0], **options)


def _queued(request: Request, task: Task, new: bool) -> Response:
    """Answer with a task that was queued now, or before by the same request; hold the answer if that is preferred."""
    headers = {"Location": reverse("task", args=[task.pk])}
    if not new:
        headers["Idempotency-Replayed"] = "true"
        task = get_object_or_404(pictured(Task.objects.all()), pk=task.pk)
    seconds = waiting.preferred(request)
    if seconds is None:
        return _answer(request, task, status=201 if new else 200, headers=headers)
    headers["Preference-Applied"] = f"wait={seconds}"
    answer = _answer(request, task, status=201 if new else 200, headers=headers)
    renew = partial(_answer, request, status=answer.status_code)
    return waiting.hold(answer, waiting.Wait(task_id=task.pk, seconds=seconds, renew=renew))


def _task(request: Request, task_id: UUID) -> Task:
    """Return a task that the caller may see; nobody learns whether there is another."""
    tasks = access.visible(pictured(Task.objects.all()), caller(request))
    return get_object_or_404(tasks, pk=task_id)


def _picture(request: Request, task_id: UUID, index: int) -> TaskImage:
    tasks = access.visible(Task.objects.filter(pk=task_id), caller(request))
    image = get_object_or_404(TaskImage, task__in=tasks, index=index)
    if image.purged_at is not None:
        raise Gone
    return image


class TaskList(APIView):
    """`GET /task` and `POST /task`."""

    scopes = {"POST": Scope.SUBMIT}

    def get(self, request: Request) -> Response:
        """List tasks, the newest first; `status` and `model_id` filter."""
        pages = TaskPages()
        tasks = pages.paginate_queryset(self._filtered(request), request, view=self)
        return pages.get_paginated_response(represent(request, list(tasks or [])))

    def post(self, request: Request) -> Response:
        """Queue a task; `Idempotency-Key` makes it one task however often it is sent, `Prefer: wait=N` waits for it."""
        named = once(request, request.data)
        serializer = SubmissionSerializer(data=request.data, context={"caller": caller(request), "meant": True})
        serializer.is_valid(raise_exception=True)
        return _queued(request, *services.submit(serializer.submission(), caller=caller(request), once=named))

    def _filtered(self, request: Request) -> QuerySet[Task]:
        tasks = access.visible(pictured(Task.objects.all()), caller(request))
        if (status := request.query_params.get("status")) is not None:
            if status not in Status.values:
                raise ValidationError({"status": [f"Must be one of {', '.join(Status.values)}."]})
            tasks = tasks.filter(status=status)
        if (model_id := request.query_params.get("model_id")) is not None:
            if "\0" in model_id:
                raise ValidationError({"model_id": ["Must not contain NUL characters."]})
            tasks = tasks.filter(model_id__in={model_id, *_resolved(model_id)})
        return tasks


def _resolved(name: str) -> list[str]:
    try:
        return [catalog.resolve(name).model_id]
    except errors.ModelNotAllowed:
        return []  # a model that is no longer allowed may still have tasks


class TaskFromImage(APIView):
    """`POST /task/from-image`."""

    parser_classes = (PNGParser, JPEGParser, WebPParser)

    def post(self, request: Request) -> Response:
        """Return the parameters that a picture's file tells, ready for `POST /task`."""
        return Response(asdict(recovered(_content(request), caller(request))))


class Uploads(APIView):
    """`POST /upload`."""

    parser_classes = (PNGParser, JPEGParser, WebPParser)
    scopes = {"POST": Scope.SUBMIT}

    def post(self, request: Request) -> Response:
        """Keep a picture for tasks to begin with."""
        return Response(asdict(uploads.add(_content(request), caller(request))), status=201)


def _content(request: Request) -> bytes:
    # DRF takes an empty body for an empty form.
    return request.data if isinstance(request.data, bytes) else b""


class TaskDetail(APIView):
    """`GET /task/{id}`."""

    def get(self, request: Request, task_id: UUID) -> Response:
        """Return a task, with live progress while it runs."""
        return _answer(request, _task(request, task_id))


class TaskCancel(APIView):
    """`POST /task/{id}/cancel`."""

    scopes = {"POST": Scope.SUBMIT}

    def post(self, request: Request, task_id: UUID) -> Response:
        """Cancel a task; one that has ended stays as it is."""
        get_object_or_404(access.cancelable(Task.objects.only("pk"), caller(request)), pk=task_id)
        services.cancel(task_id)
        return _answer(request, get_object_or_404(pictured(Task.objects.all()), pk=task_id))


class TaskReproduce(APIView):
    """`POST /task/{id}/reproduce`."""

    scopes = {"POST": Scope.SUBMIT}

    def post(self, request: Request, task_id: UUID) -> Response:
        """Queue a task that succeeded once more, to compare the pictures; with the headers of `POST /task`."""
        named = once(request, {"reproduces": str(task_id)})
        task = get_object_or_404(access.repeatable(Task.objects.all(), caller(request)), pk=task_id)
        return _queued(request, *services.reproduce(task, caller=caller(request), once=named))


class TaskImages(APIView):
    """`GET /task/{id}/images`."""

    def get(self, request: Request, task_id: UUID) -> Response:
        """List a task's pictures."""
        return Response(represent(request, [_task(request, task_id)])[0]["images"])


class TaskLinks(APIView):
    """`GET /task/{id}/links`."""

    def get(self, request: Request, task_id: UUID) -> Response:
        """Return addresses that need no key for a while: for an EventSource, an `<img>` or whoever is to see it."""
        task = _task(request, task_id)
        images = [signing.address(request, "task-image", task.pk, image["index"]) for image in pictures(task)]
        return Response({"events": signing.address(request, "task-events", task.pk), "images": images})


class PreconditionFailed(APIException):
    """The picture is another than the request names."""

    status_code = 412
    default_code = "precondition_failed"
    default_detail = "The picture is another than the request names."


class Gone(APIException):
    """The picture was purged."""

    status_code = 410
    default_code = "gone"
    default_detail = "The picture was purged: this server keeps pictures for a limited time."


class TaskImageFile(APIView):
    """`GET /task/{id}/images/{index}`."""

    content_negotiation_class = AnyAccepted

    def get(self, request: Request, task_id: UUID, index: int) -> HttpResponseBase:
        """Return a picture's bytes; they never change."""
        image = _picture(request, task_id, index)
        if settings.S3_PRESIGNED:
            return _unless_known(request, image.sha256, lambda etag: _signed(image))
        if settings.X_ACCEL_LOCATION:
            sent = {"X-Accel-Redirect": f"{settings.X_ACCEL_LOCATION}{quote(str(image.file.name))}"}
            return _bytes(request, image.sha256, image.content_type, bytes, sent)
        return _bytes(request, image.sha256, image.content_type, lambda: _file(image))


class TaskThumbnail(APIView):
    """`GET /task/{id}/images/{index}/thumbnail`."""

    content_negotiation_class = AnyAccepted

    def get(self, request: Request, task_id: UUID, index: int) -> HttpResponseBase:
        """Return a picture in small, as WebP."""
        image = _picture(request, task_id, index)
        return _bytes(request, f"{image.sha256}-small", "image/webp", lambda: _thumbnail(image))


FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def _bytes(
    request: Request, tag: str, content_type: str, read: Callable[[], bytes], headers: Mapping[str, str] | None = None
) -> HttpResponseBase:
    """Answer with bytes that never change under this tag."""
    more = {**FOREVER, **(headers or {})}
    return _unless_known(
        request, tag, lambda etag: HttpResponse(read(), content_type=content_type, headers={"ETag": etag, **more})
    )


def _unless_known(request: Request, tag: str, answer: Callable[[str], HttpResponseBase]) -> HttpResponseBase:
    """Answer what belongs to this tag, unless the client has it."""
    etag = f'"{tag}"'
    kept = HttpResponse(headers={"ETag": etag, **FOREVER})
    known = get_conditional_response(request, etag=etag, response=kept)
    if known is None or known is kept:
        return answer(etag)
    if known.status_code == 412:
        raise PreconditionFailed
    return known


def _signed(image: TaskImage) -> HttpResponseBase:
    """Send the client to the bucket, whose answer may be kept for longer than this one."""
    lasting = f"private, max-age={settings.S3_PRESIGNED_SECONDS // 2}"
    return HttpResponseRedirect(image.file.url, headers={"Cache-Control": lasting})


def _file(image: TaskImage) -> bytes:
    try:
        return storage.read(str(image.file.name))
    except FileNotFoundError:
        raise NotFound("The picture's file is gone.") from None


def _thumbnail(image: TaskImage) -> bytes:
    content = _file(image)
    try:
        return storage.thumbnail(content)
    except errors.UnreadablePicture as error:
        raise NotFound(str(error)) from error
