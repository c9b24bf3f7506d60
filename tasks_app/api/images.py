"""Pictures' bytes: those of tasks and of uploads, which never change, and those that clients send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.cache import get_conditional_response
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import errors
from tasks_app.access import permissions
from tasks_app.api.http.authentication import caller
from tasks_app.api.http.negotiation import AnyAccepted
from tasks_app.api.http.parsers import JPEGParser, PNGParser, WebPParser
from tasks_app.images import storage, uploads
from tasks_app.models import Scope, Task, TaskImage
from tasks_app.submissions import recovered


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


class UploadFile(APIView):
    """`GET /upload/{id}`."""

    content_negotiation_class = AnyAccepted

    def get(self, request: Request, upload_id: UUID) -> HttpResponseBase:
        """Return an upload's picture, a PNG; its bytes never change."""
        upload = uploads.find(upload_id, caller(request))
        if upload is None:
            raise NotFound
        return _bytes(request, upload.sha256, "image/png", lambda: _file(uploads.name(upload.id)))


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
        return _bytes(request, image.sha256, image.content_type, lambda: _file(str(image.file.name)))


class TaskThumbnail(APIView):
    """`GET /task/{id}/images/{index}/thumbnail`."""

    content_negotiation_class = AnyAccepted

    def get(self, request: Request, task_id: UUID, index: int) -> HttpResponseBase:
        """Return a picture in small, as WebP."""
        image = _picture(request, task_id, index)
        return _bytes(request, f"{image.sha256}-small", "image/webp", lambda: _thumbnail(image))


def _content(request: Request) -> bytes:
    # DRF takes an empty body for an empty form.
    return request.data if isinstance(request.data, bytes) else b""


def _picture(request: Request, task_id: UUID, index: int) -> TaskImage:
    tasks = permissions.visible(Task.objects.filter(pk=task_id), caller(request))
    image = get_object_or_404(TaskImage, task__in=tasks, index=index)
    if image.purged_at is not None:
        raise Gone
    return image


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


def _file(name: str) -> bytes:
    try:
        return storage.read(name)
    except FileNotFoundError:
        raise NotFound("The picture's file is gone.") from None


def _thumbnail(image: TaskImage) -> bytes:
    content = _file(str(image.file.name))
    try:
        return storage.thumbnail(content)
    except errors.UnreadablePicture as error:
        raise NotFound(str(error)) from error
