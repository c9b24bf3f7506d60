"""Endpoints that list the LoRAs and embeddings that requests may name."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import answers
from tasks_app.api.openapi.describe import build_list_response
from tasks_app.engine import addon_files
from tasks_app.models import Scope


class LoraListView(APIView):
    """`GET /loras`."""

    scopes = {"GET": Scope.MODELS}

    @extend_schema(
        operation_id="listLoras",
        tags=["models"],
        responses={200: build_list_response(answers.Lora, "All LoRAs by name.")},
    )
    def get(self, request: Request) -> Response:
        """List the LoRAs by name."""
        found: list[answers.Lora] = [{"id": name, "bytes": size} for name, size in _get_sizes(settings.LORAS_DIR)]
        return Response(found)


class EmbeddingListView(APIView):
    """`GET /embeddings`."""

    scopes = {"GET": Scope.MODELS}

    @extend_schema(
        operation_id="listEmbeddings",
        tags=["models"],
        responses={200: build_list_response(answers.Embedding, "All embeddings by name.")},
    )
    def get(self, request: Request) -> Response:
        """List the embeddings by name."""
        found: list[answers.Embedding] = [
            {"id": name, "bytes": size} for name, size in _get_sizes(settings.EMBEDDINGS_DIR)
        ]
        return Response(found)


def _get_sizes(folder: Path) -> list[tuple[str, int]]:
    return [(name, path.stat().st_size) for name, path in addon_files.get_addon_paths(folder).items()]
