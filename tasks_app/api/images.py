"""Endpoints for image files: those of tasks and uploads, which never change, and those that clients send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.cache import get_conditional_response
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import answers, errors
from tasks_app.access import permissions
from tasks_app.api.http.authentication import get_principal
from tasks_app.api.http.negotiation import IgnoreAcceptNegotiation
from tasks_app.api.http.parsers import JPEGParser, PNGParser, WebPParser
from tasks_app.api.openapi.describe import (
    BYTES,
    IMAGE_BODY,
    IMAGE_TYPES,
    build_headers,
    build_parameters,
    build_response,
)
from tasks_app.images import storage, uploads
from tasks_app.models import Scope, Task, TaskImage
from tasks_app.submissions import read_image_params

NOT_MODIFIED = OpenApiResponse(None, "The client has these bytes.")
BYTES_PARAMETERS = [
    *build_parameters("If-None-Match", "If-Match"),
    *build_headers("ETag", "Cache-Control", status=200),
    *build_headers("ETag", "Cache-Control", status=304),
]


class PreconditionFailedError(APIException):
    """Response 412: the image does not have the ETag that `If-Match` requires."""

    status_code = 412
    default_code = "precondition_failed"
    default_detail = "The image has changed (ETag mismatch)."


class ImagePurgedError(APIException):
    """Response 410: the image was purged."""

    status_code = 410
    default_code = "gone"
    default_detail = "The image was purged: the server keeps images for a limited time."


class TaskFromImageView(APIView):
    """`POST /task/from-image`."""

    parser_classes = (PNGParser, JPEGParser, WebPParser)

    @extend_schema(
        operation_id="readImage",
        tags=["tasks"],
        description="Reads files that this service made, and those with A1111's `parameters`.",
        request=IMAGE_BODY,
        responses={200: build_response(answers.Recovered, "The parameters.")},
    )
    def post(self, request: Request) -> Response:
        """Return the parameters stored in an image file, ready for `POST /task`."""
        found = read_image_params(_get_body(request), get_principal(request))
        answer: answers.Recovered = {
            "source": found.source,
            "task_type": found.task_type,
            "params": dict(found.params),
            "ignored": dict(found.ignored),
        }
        return Response(answer)


class UploadView(APIView):
    """`POST /upload`."""

    parser_classes = (PNGParser, JPEGParser, WebPParser)
    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(
        operation_id="uploadImage",
        tags=["images"],
        description="Stores only its pixels, upright and on white. The server removes it when it is older than the "
        "server keeps uploads and no task refers to it.",
        request=IMAGE_BODY,
        responses={201: build_response(answers.Upload, "The stored image.")},
    )
    def post(self, request: Request) -> Response:
        """Store an image as input for tasks."""
        added = uploads.add_upload(_get_body(request), get_principal(request))
        answer: answers.Upload = {
            "id": str(added.id),
            "sha256": added.sha256,
            "width": added.width,
            "height": added.height,
        }
        return Response(answer, status=201)


class UploadFileView(APIView):
    """`GET /upload/{id}`."""

    content_negotiation_class = IgnoreAcceptNegotiation

    @extend_schema(
        operation_id="getUpload",
        tags=["images"],
        parameters=BYTES_PARAMETERS,
        responses={(200, "image/png"): OpenApiResponse(BYTES, "The image."), 304: NOT_MODIFIED, 412: None},
    )
    def get(self, request: Request, upload_id: UUID) -> HttpResponseBase:
        """Return an upload's image as PNG; its bytes never change."""
        upload = uploads.find_upload(upload_id, get_principal(request))
        if upload is None:
            raise NotFound
        return _bytes_response(
            request, upload.sha256, "image/png", lambda: _read_file(uploads.get_file_name(upload.id))
        )


class TaskImageFileView(APIView):
    """`GET /task/{id}/images/{index}`."""

    content_negotiation_class = IgnoreAcceptNegotiation

    @extend_schema(
        operation_id="getImage",
        tags=["images"],
        parameters=[*BYTES_PARAMETERS, *build_headers("Location", "Cache-Control", status=302)],
        responses={
            (200, *IMAGE_TYPES): OpenApiResponse(BYTES, "The image."),
            302: OpenApiResponse(None, "The image is in a bucket."),
            304: NOT_MODIFIED,
            410: None,
            412: None,
        },
        auth=["signature"],
    )
    def get(self, request: Request, task_id: UUID, index: int) -> HttpResponseBase:
        """Return an image's bytes; they never change."""
        image = _get_image(request, task_id, index)
        if settings.S3_PRESIGNED:
            return _conditional_response(request, image.sha256, lambda etag: _redirect_to_bucket(image))
        if settings.X_ACCEL_LOCATION:
            sent = {"X-Accel-Redirect": f"{settings.X_ACCEL_LOCATION}{quote(str(image.file.name))}"}
            return _bytes_response(request, image.sha256, image.content_type, bytes, sent)
        return _bytes_response(request, image.sha256, image.content_type, lambda: _read_file(str(image.file.name)))


class TaskThumbnailView(APIView):
    """`GET /task/{id}/images/{index}/thumbnail`."""

    content_negotiation_class = IgnoreAcceptNegotiation

    @extend_schema(
        operation_id="getThumbnail",
        tags=["images"],
        parameters=BYTES_PARAMETERS,
        responses={
            (200, "image/webp"): OpenApiResponse(BYTES, "The thumbnail."),
            304: NOT_MODIFIED,
            410: None,
            412: None,
        },
        auth=["signature"],
    )
    def get(self, request: Request, task_id: UUID, index: int) -> HttpResponseBase:
        """Return an image's thumbnail as WebP, at most 256 pixels wide and high."""
        image = _get_image(request, task_id, index)
        return _bytes_response(request, f"{image.sha256}-small", "image/webp", lambda: _read_thumbnail(image))


def _get_body(request: Request) -> bytes:
    # DRF parses an empty body as an empty form.
    return request.data if isinstance(request.data, bytes) else b""


def _get_image(request: Request, task_id: UUID, index: int) -> TaskImage:
    tasks = permissions.filter_visible(Task.objects.filter(pk=task_id), get_principal(request))
    image = get_object_or_404(TaskImage, task__in=tasks, index=index)
    if image.purged_at is not None:
        raise ImagePurgedError
    return image


IMMUTABLE_HEADERS = {"Cache-Control": "private, max-age=31536000, immutable"}


def _bytes_response(
    request: Request, tag: str, content_type: str, read: Callable[[], bytes], headers: Mapping[str, str] | None = None
) -> HttpResponseBase:
    """Return a response with bytes that never change for this ETag, or 304 if the client has them."""
    more = {**IMMUTABLE_HEADERS, **(headers or {})}
    return _conditional_response(
        request, tag, lambda etag: HttpResponse(read(), content_type=content_type, headers={"ETag": etag, **more})
    )


def _conditional_response(request: Request, tag: str, answer: Callable[[str], HttpResponseBase]) -> HttpResponseBase:
    """Return the response that `answer` builds for this ETag, or 304 if the client has it.

    Raises:
        PreconditionFailedError: `If-Match` requires another ETag.
    """
    etag = f'"{tag}"'
    kept = HttpResponse(headers={"ETag": etag, **IMMUTABLE_HEADERS})
    known = get_conditional_response(request, etag=etag, response=kept)
    if known is None or known is kept:
        return answer(etag)
    if known.status_code == 412:
        raise PreconditionFailedError
    return known


def _redirect_to_bucket(image: TaskImage) -> HttpResponseBase:
    """Redirect to the bucket; its response may be cached for longer than this redirect."""
    lasting = f"private, max-age={settings.S3_PRESIGNED_SECONDS // 2}"
    return HttpResponseRedirect(image.file.url, headers={"Cache-Control": lasting})


def _read_file(name: str) -> bytes:
    try:
        return storage.read_file(name)
    except FileNotFoundError:
        raise NotFound("The image file is missing.") from None


def _read_thumbnail(image: TaskImage) -> bytes:
    content = _read_file(str(image.file.name))
    try:
        return storage.build_thumbnail(content)
    except errors.InvalidImageError as error:
        raise NotFound(str(error)) from error
