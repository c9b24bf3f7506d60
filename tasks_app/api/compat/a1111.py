"""Compatibility API for clients of A1111's web UI: the `webuiapi` package, bots and plug-ins."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from tasks_app import answers, errors, services
from tasks_app.access import permissions
from tasks_app.api.compat import current_model
from tasks_app.api.compat.a1111_requests import FIXED_OPTIONS, MODEL_OPTION, OptionsField, TextToImageSerializer
from tasks_app.api.compat.a1111_responses import (
    build_idle_progress,
    build_png_info,
    build_task_progress,
    build_txt2img_response,
)
from tasks_app.api.compat.tasks import submit_and_wait
from tasks_app.api.http.authentication import get_principal
from tasks_app.api.http.parsers import UploadJSONParser
from tasks_app.api.openapi.describe import OBJECT, WAIT_ERRORS, build_parameters, build_response, component_ref
from tasks_app.catalog import choices as model_choices
from tasks_app.catalog import resolve
from tasks_app.fields import StrictCharField, StrictSerializer, has_surrogate
from tasks_app.images import metadata
from tasks_app.models import Scope, Status, Task


class UnprocessableError(ValidationError):
    """Response 422: fields are invalid. A1111's clients expect this status."""

    status_code = 422


def _validate_serializer(serializer: Serializer[Any]) -> None:
    if not serializer.is_valid():
        raise UnprocessableError(serializer.errors)


def _get_open_tasks(request: Request) -> QuerySet[Task]:
    """Return the caller's own queued and running tasks, newest first."""
    return permissions.filter_own(
        Task.objects.filter(status__in=[Status.QUEUED, Status.RUNNING]), get_principal(request)
    )


class TextToImageView(APIView):
    """`POST /sdapi/v1/txt2img`."""

    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(
        operation_id="textToImage",
        tags=["A1111"],
        parameters=build_parameters("Idempotency-Key"),
        request={"application/json": component_ref("schemas", "TextToImage")},
        responses={200: build_response(answers.Pictures, "The images."), **WAIT_ERRORS},
        examples=[
            OpenApiExample(
                "two",
                {"prompt": "a beach", "steps": 25, "sampler_name": "Euler a", "batch_size": 2, "seed": -1},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Generate images, and respond when they are ready."""
        serializer = TextToImageSerializer(
            data=request.data, context={"model": current_model.get_selected_checkpoint(get_principal(request))}
        )
        _validate_serializer(serializer)
        return submit_and_wait(
            request, serializer.build_submission(), partial(build_txt2img_response, serializer.initial_data)
        )


class ProgressView(APIView):
    """`GET /sdapi/v1/progress`."""

    @extend_schema(
        operation_id="progress",
        tags=["A1111"],
        parameters=build_parameters("skip_current_image"),
        responses={200: build_response(answers.WebUIProgress, "The progress.")},
    )
    def get(self, request: Request) -> Response:
        """Return the progress of the caller's newest running task, else of its newest queued one."""
        tasks = _get_open_tasks(request)
        task = tasks.filter(status=Status.RUNNING).first() or tasks.first()
        if task is None:
            return Response(build_idle_progress())
        skipped = request.query_params.get("skip_current_image", "").lower() in ("true", "1")
        return Response(build_task_progress(task, tasks.count(), with_picture=not skipped))


class InterruptView(APIView):
    """`POST /sdapi/v1/interrupt`."""

    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(
        operation_id="interrupt",
        tags=["A1111"],
        request=None,
        responses={200: OpenApiResponse(OBJECT, "An empty object.")},
    )
    def post(self, request: Request) -> Response:
        """Cancel the caller's own running tasks."""
        for task_id in _get_open_tasks(request).filter(status=Status.RUNNING).values_list("pk", flat=True):
            services.cancel_task(task_id)
        return Response({})


class OptionsView(APIView):
    """`GET` and `POST /sdapi/v1/options`."""

    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(operation_id="getOptions", tags=["A1111"], responses={200: OpenApiResponse(OBJECT, "The settings.")})
    def get(self, request: Request) -> Response:
        """Return the caller's model and the values of the fixed options."""
        model = current_model.get_selected_checkpoint(get_principal(request)) or model_choices.get_default_name()
        return Response({MODEL_OPTION: model, **{name: at[0] for name, at in FIXED_OPTIONS.items()}})

    @extend_schema(
        operation_id="setOptions",
        tags=["A1111"],
        request={"application/json": {**OBJECT, "properties": {MODEL_OPTION: {"type": ["string", "null"]}}}},
        responses={200: OpenApiResponse(OBJECT, "An empty object."), 422: None},
        examples=[OpenApiExample("model", {MODEL_OPTION: "demo"}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Select another model, for this key only."""
        try:
            # DRF parses an empty body as an empty object.
            options = OptionsField().run_validation(request.data if request.body else None)
        except ValidationError as error:
            raise UnprocessableError({"": error.detail}) from None
        if (name := options.get(MODEL_OPTION)) is not None:
            current_model.select_checkpoint(get_principal(request), _validate_model_name(name))
        return Response({})


def _validate_model_name(name: Any) -> str:
    if not isinstance(name, str) or "\0" in name or has_surrogate(name):
        raise UnprocessableError({MODEL_OPTION: ["Must be the name of a model."]})
    try:
        resolve.resolve_model(name)
    except errors.ModelNotAllowedError as error:
        raise UnprocessableError({MODEL_OPTION: [str(error)]}, code=error.code) from None
    return name


class PngInfoSerializer(StrictSerializer):
    """Body of `POST /sdapi/v1/png-info`: an image file in Base64, as a `data:` URL or alone."""

    image = StrictCharField()

    def validate_image(self, image: str) -> bytes:
        """Return the decoded file."""
        try:
            return base64.b64decode(image.rpartition(",")[2], validate=True)
        except ValueError:
            raise ValidationError("Must be valid Base64.") from None


class PngInfoView(APIView):
    """`POST /sdapi/v1/png-info`."""

    parser_classes = (UploadJSONParser,)

    @extend_schema(
        operation_id="pictureInfo",
        tags=["A1111"],
        request=PngInfoSerializer,
        responses={200: build_response(answers.PictureInfo, "The parameters; empty if there are none."), 422: None},
        examples=[OpenApiExample("start of a file", {"image": "iVBORw0KGgo="}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Return the generation parameters stored in an image file."""
        serializer = PngInfoSerializer(data=request.data)
        _validate_serializer(serializer)
        return Response(build_png_info(metadata.read_infotext(serializer.validated_data["image"])))
