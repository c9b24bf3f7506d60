"""The web's entry point: `uvicorn project.asgi:application --lifespan off --timeout-graceful-shutdown 5`."""

import os
from typing import Any

import django
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponseBase, JsonResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup(set_prefix=False)

from tasks_app.api.body import bounded  # noqa: E402 - needs the settings
from tasks_app.api.shapes import error_body  # noqa: E402


class Handler(ASGIHandler):
    """Django's own, but for headers that no request can be made of: Django has no answer to those."""

    def create_request(self, scope: Any, body_file: Any) -> tuple[ASGIRequest, None] | tuple[None, HttpResponseBase]:
        """Return the request, or the refusal of one whose headers can't be read."""
        try:
            request, answer = super().create_request(scope, body_file)
        except ValueError:
            request, answer = None, None
        if request is not None:
            return request, None
        return None, answer or JsonResponse(
            error_body("bad_request", "The request's headers can't be read."), status=400
        )


application = bounded(Handler())
