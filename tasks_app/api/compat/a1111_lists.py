"""Lists of A1111's API: models, add-ons, samplers, and the lists that are empty on this server."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import answers
from tasks_app.api.openapi.answers import schema_of_answer
from tasks_app.catalog import choices as model_choices
from tasks_app.engine import addon_files
from tasks_app.images.metadata import a1111_samplers
from tasks_app.models import Scope

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


def _returns_list(answer: type, description: str) -> OpenApiResponse:
    return OpenApiResponse({"type": "array", "items": schema_of_answer(answer)}, description)


class ModelListView(APIView):
    """`GET /sdapi/v1/sd-models`."""

    scopes = {"GET": Scope.MODELS}

    @extend_schema(
        operation_id="listCheckpoints",
        tags=["A1111"],
        responses={200: _returns_list(answers.Checkpoint, "The models.")},
    )
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

    @extend_schema(
        operation_id="listLoraNames",
        tags=["A1111"],
        responses={200: _returns_list(answers.LoraName, "The LoRAs.")},
    )
    def get(self, request: Request) -> Response:
        """List the LoRAs that a prompt may name."""
        names = addon_files.get_addon_paths(settings.LORAS_DIR)
        found: list[answers.LoraName] = [{"name": name, "alias": name, "path": name, "metadata": {}} for name in names]
        return Response(found)


class EmbeddingListView(APIView):
    """`GET /sdapi/v1/embeddings`."""

    scopes = {"GET": Scope.MODELS}

    @extend_schema(
        operation_id="listEmbeddingNames",
        tags=["A1111"],
        responses={200: OpenApiResponse(schema_of_answer(answers.EmbeddingNames), "The embeddings.")},
    )
    def get(self, request: Request) -> Response:
        """List the embeddings that a prompt may name."""
        unknown = dict.fromkeys(("step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors"))
        names = addon_files.get_addon_paths(settings.EMBEDDINGS_DIR)
        found: answers.EmbeddingNames = {"loaded": dict.fromkeys(names, unknown), "skipped": {}}
        return Response(found)


class SamplerListView(APIView):
    """`GET /sdapi/v1/samplers`."""

    @extend_schema(
        operation_id="listSamplers",
        tags=["A1111"],
        responses={200: _returns_list(answers.Sampler, "The samplers.")},
    )
    def get(self, request: Request) -> Response:
        """List the A1111 samplers that this server supports."""
        found: list[answers.Sampler] = [
            {"name": name, "aliases": list(a1111_samplers.SAMPLER_ALIASES.get(name, ())), "options": {}}
            for name in a1111_samplers.SCHEDULERS_BY_SAMPLER
        ]
        return Response(found)


class SchedulerListView(APIView):
    """`GET /sdapi/v1/schedulers`."""

    @extend_schema(
        operation_id="listSchedulers",
        tags=["A1111"],
        responses={200: _returns_list(answers.SchedulerName, "The schedule types.")},
    )
    def get(self, request: Request) -> Response:
        """List the schedule types."""
        found: list[answers.SchedulerName] = [
            {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
            for name, label in a1111_samplers.SCHEDULE_LABELS.items()
        ]
        return Response(found)


class EmptyListView(APIView):
    """`GET` of the lists that are always empty on this server."""

    @extend_schema(
        operation_id="listNothing",
        tags=["A1111"],
        responses={200: OpenApiResponse({"description": "Empty."}, "An empty list or object.")},
    )
    def get(self, request: Request, what: str) -> Response:
        """Return an empty list, in the format that clients expect."""
        if what not in EMPTY_RESPONSES:
            raise NotFound("There is no such thing here.")
        return Response(EMPTY_RESPONSES[what])
