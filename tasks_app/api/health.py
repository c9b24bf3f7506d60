"""Probes: is the process up, and can it work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from redis import RedisError

from tasks_app import progress
from tasks_app.api.shapes import error_body

View = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]


def probe(view: View) -> View:
    """Answer GET and HEAD with the view, and every other method as the API does."""

    @wraps(view)
    async def answer(request: HttpRequest) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return await view(request)
        refusal = error_body("method_not_allowed", f'Method "{request.method}" not allowed.')
        return JsonResponse(refusal, status=405, headers={"Allow": "GET, HEAD"})

    return csrf_exempt(answer)


@probe
async def healthz(request: HttpRequest) -> JsonResponse:
    """Answer that the process is up; touches nothing."""
    return JsonResponse({"status": "ok"})


@probe
async def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when database and Redis answer and all migrations are applied, else 503 and what is missing."""
    parts = {"database": await sync_to_async(_database)(), "redis": await sync_to_async(_redis)()}
    ready = set(parts.values()) == {"ok"}
    return JsonResponse({"status": "ok" if ready else "unavailable", **parts}, status=200 if ready else 503)


def _database() -> str:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, InterfaceError):
        return "does not answer"
    return "migrations are missing" if missing else "ok"


def _redis() -> str:
    try:
        progress.client.ping()
    except RedisError:
        return "does not answer"
    return "ok"
