"""A bare DRF view that inserts the row of a task and sends its Dramatiq message, and does nothing else.

Run it as `uvicorn tools.benchmarks.harness.servers.plain:application`, with the settings in `plain_settings`, on the
service's database.
"""

from __future__ import annotations

from typing import Any

from django.core.asgi import get_asgi_application
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

application = get_asgi_application()

from tasks_app.actors import generate  # noqa: E402 - needs the settings
from tasks_app.models import Task  # noqa: E402

SEED = 7
BATCH_KEY = "0" * 32
SENT = ("guidance_scale", "negative_prompt")
DEFAULTS: dict[str, Any] = {
    "negative_prompt": "",
    "width": None,
    "height": None,
    "num_images": 1,
    "scheduler": None,
    "loras": [],
    "embeddings": [],
    "output_format": "png",
}


class Insert(APIView):
    """View of `POST /task`."""

    authentication_classes = ()
    permission_classes = ()

    def get(self, request: Request) -> Response:
        """Respond with 200, as a health check."""
        return Response()

    def post(self, request: Request) -> Response:
        """Insert the row, send the message, and respond with 201."""
        asked: Any = request.data
        task = Task.objects.create(**row(asked["params"]))
        generate.send(str(task.pk))
        return Response({"id": str(task.pk)}, status=201)


def row(params: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that `POST /task` fills in, using the parameters without validation."""
    own = {**DEFAULTS, **params}
    model = own.pop("model_id")
    return {
        "task_type": "text-to-image",
        "provider": "diffusers",
        "requested_model_id": model,
        "model_id": model,
        "params": own,
        "seed": SEED,
        "batch_key": BATCH_KEY,
        "explicit_params": [name for name in SENT if name in params],
        "total_steps": own["steps"],
    }


urlpatterns = [path("task", Insert.as_view())]
