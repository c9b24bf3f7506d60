"""The LoRAs and embeddings that requests may name."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app.engine import addon_files
from tasks_app.models import Scope


class Loras(APIView):
    """`GET /loras`."""

    scopes = {"GET": Scope.MODELS}

    def get(self, request: Request) -> Response:
        """List the LoRAs by name."""
        return _listed(settings.LORAS_DIR)


class Embeddings(APIView):
    """`GET /embeddings`."""

    scopes = {"GET": Scope.MODELS}

    def get(self, request: Request) -> Response:
        """List the embeddings by name."""
        return _listed(settings.EMBEDDINGS_DIR)


def _listed(folder: Path) -> Response:
    return Response([{"id": name, "bytes": path.stat().st_size} for name, path in addon_files.paths(folder).items()])
