"""The LoRAs that requests may name."""

from __future__ import annotations

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import lorafiles
from tasks_app.models import Scope


class Loras(APIView):
    """`GET /loras`."""

    scopes = {"GET": Scope.MODELS}

    def get(self, request: Request) -> Response:
        """List the LoRAs by name."""
        found = lorafiles.paths(settings.LORAS_DIR)
        return Response([{"id": name, "bytes": path.stat().st_size} for name, path in found.items()])
