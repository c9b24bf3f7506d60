"""Compatibility API for clients of A1111's web UI: the `webuiapi` package, bots and plug-ins."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, ValidationError
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
from tasks_app.catalog import choices as model_choices
from tasks_app.catalog import resolve
from tasks_app.engine import addon_files
from tasks_app.fields import StrictCharField, StrictSerializer, has_surrogate
from tasks_app.images import metadata
from tasks_app.images.metadata import a1111_samplers
from tasks_app.models import Scope, Status, Task

# Lists that clients request to fill their menus and that are empty on this server.
_EMPTY_LISTS = (
    *("script-info", "extensions", "upscalers", "latent-upscale-modes", "sd-vae"),
    *("hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles"),
)
EMPTY_RESPONSES: dict[str, Any] = {
    "scripts": {"txt2img": [], "img2img": []},
    "cmd-flags": {},
    **{name: [] for name in _EMPTY_LISTS},
}


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

    def post(self, request: Request) -> Response:
        """Cancel the caller's own running tasks."""
        for task_id in _get_open_tasks(request).filter(status=Status.RUNNING).values_list("pk", flat=True):
            services.cancel_task(task_id)
        return Response({})


class OptionsView(APIView):
    """`GET` and `POST /sdapi/v1/options`."""

    scopes = {"POST": Scope.SUBMIT}

    def get(self, request: Request) -> Response:
        """Return the caller's model and the values of the fixed options."""
        model = current_model.get_selected_checkpoint(get_principal(request)) or model_choices.get_default_name()
        return Response({MODEL_OPTION: model, **{name: at[0] for name, at in FIXED_OPTIONS.items()}})

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


class ModelListView(APIView):
    """`GET /sdapi/v1/sd-models`."""

    scopes = {"GET": Scope.MODELS}

    def get(self, request: Request) -> Response:
        """List the models that a request may name."""
        found: list[answers.Checkpoint] = [
            {"title": name, "model_name": name, "filename": name, "hash": None, "sha256": None, "config": None}
            for name in model_choices.get_created_by_id()
        ]
        return Response(found)


class LoraListView(APIView):
    """`GET /sdapi/v1/loras`."""

    scopes = {"GET": Scope.MODELS}

    def get(self, request: Request) -> Response:
        """List the LoRAs that a prompt may name."""
        names = addon_files.get_addon_paths(settings.LORAS_DIR)
        found: list[answers.LoraName] = [{"name": name, "alias": name, "path": name, "metadata": {}} for name in names]
        return Response(found)


class EmbeddingListView(APIView):
    """`GET /sdapi/v1/embeddings`."""

    scopes = {"GET": Scope.MODELS}

    def get(self, request: Request) -> Response:
        """List the embeddings that a prompt may name."""
        unknown = dict.fromkeys(("step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors"))
        names = addon_files.get_addon_paths(settings.EMBEDDINGS_DIR)
        found: answers.EmbeddingNames = {"loaded": dict.fromkeys(names, unknown), "skipped": {}}
        return Response(found)


class SamplerListView(APIView):
    """`GET /sdapi/v1/samplers`."""

    def get(self, request: Request) -> Response:
        """List the A1111 samplers that this server supports."""
        found: list[answers.Sampler] = [
            {"name": name, "aliases": list(a1111_samplers.SAMPLER_ALIASES.get(name, ())), "options": {}}
            for name in a1111_samplers.SCHEDULERS_BY_SAMPLER
        ]
        return Response(found)


class SchedulerListView(APIView):
    """`GET /sdapi/v1/schedulers`."""

    def get(self, request: Request) -> Response:
        """List the schedule types."""
        found: list[answers.SchedulerName] = [
            {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
            for name, label in a1111_samplers.SCHEDULE_LABELS.items()
        ]
        return Response(found)


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

    def post(self, request: Request) -> Response:
        """Return the generation parameters stored in an image file."""
        serializer = PngInfoSerializer(data=request.data)
        _validate_serializer(serializer)
        return Response(build_png_info(metadata.read_infotext(serializer.validated_data["image"])))


class EmptyListView(APIView):
    """`GET` of the lists that are always empty on this server."""

    def get(self, request: Request, what: str) -> Response:
        """Return an empty list, in the format that clients expect."""
        if what not in EMPTY_RESPONSES:
            raise NotFound("Not found.")
        return Response(EMPTY_RESPONSES[what])
