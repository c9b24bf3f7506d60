"""The ASGI entry point: `uvicorn project.asgi:application --lifespan off --timeout-graceful-shutdown 5`."""

import gc
import os
from typing import Any

import django
from asgiref.sync import SyncToAsync, sync_to_async
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup(set_prefix=False)

from tasks_app.api.http.body_limit import limit_body_size  # noqa: E402
from tasks_app.api.http.error_bodies import build_error_body  # noqa: E402
from tasks_app.api.http.request_id import assign_request_id  # noqa: E402
from tasks_app.api.live import prefer_wait  # noqa: E402 - needs the settings


class Handler(ASGIHandler):
    """Django's ASGI handler with support for unreadable headers and cheaper open streams.

    A request whose headers can't be parsed is answered with 400. Before a streaming or deferred response is sent, the
    request's thread and its database connection are released.

    The whole middleware chain and the view run in a single hop to the request's thread: Django's own handler switches
    between the event loop and the thread for each middleware, which costs more than the middleware itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response, computed in the request's thread."""
        return await sync_to_async(self.get_response)(request)

    def create_request(self, scope: Any, body_file: Any) -> tuple[ASGIRequest, None] | tuple[None, HttpResponseBase]:
        """Return the request, or a 400 response if its headers can't be parsed."""
        try:
            request, answer = super().create_request(scope, body_file)
        except ValueError:
            request, answer = None, None
        if request is not None:
            return request, None
        return None, answer or JsonResponse(
            build_error_body("bad_request", "The request headers are invalid."), status=400
        )

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        """Send the response, after releasing the thread and database connection of a streaming or deferred one."""
        if response.streaming or prefer_wait.is_deferred(response):
            await _release_thread()
        if prefer_wait.is_deferred(response):
            await prefer_wait.resolve_response(response)
        await super().send_response(response, send)


async def _release_thread() -> None:
    """Shut down the thread that Django keeps for a request until its response is sent.

    Hundreds of streams may be open at once. Code that needs a thread later in the request gets a new one.
    """
    await sync_to_async(connections.close_all)()
    context = SyncToAsync.thread_sensitive_context.get()
    SyncToAsync.context_to_thread_executor.pop(context).shutdown(wait=False)


application = assign_request_id(limit_body_size(Handler()))

# Import everything that requests need up front and freeze it: otherwise each full garbage collection scans these
# objects again, which blocks all requests for 45 ms.
_ = get_resolver().url_patterns
gc.freeze()
