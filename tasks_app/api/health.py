"""Liveness and readiness probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import lru_cache, wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from redis import RedisError

from tasks_app import answers
from tasks_app.api.http.error_bodies import build_error_body
from tasks_app.catalog import resolve
from tasks_app.errors import ModelNotAllowedError, StorageError
from tasks_app.events import progress
from tasks_app.images import storage
from tasks_app.queue import workers

# Check the storage once per this many seconds: probes may reach every process every second.
STORAGE_SECONDS = 10

AsyncView = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]


def probe_endpoint(view: AsyncView) -> AsyncView:
    """Serve GET and HEAD with the view; respond 405 to other methods, with the API's error body."""

    @wraps(view)
    async def answer(request: HttpRequest) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return await view(request)
        refusal = build_error_body("method_not_allowed", f'Method "{request.method}" not allowed.')
        return JsonResponse(refusal, status=405, headers={"Allow": "GET, HEAD"})

    return csrf_exempt(answer)


@probe_endpoint
async def healthz_view(request: HttpRequest) -> JsonResponse:
    """Report that the process is up, without using any other service."""
    body: answers.Health = {"status": "ok"}
    return JsonResponse(body)


@probe_endpoint
async def readyz_view(request: HttpRequest) -> JsonResponse:
    """Respond 200 if the database, Redis and the storage are usable and all migrations are applied, else 503.

    The body also reports the default model and the number of live workers, which do not affect the status.
    """
    return await sync_to_async(_build_readiness)()


def _build_readiness() -> JsonResponse:
    database, redis = _check_database(), _check_redis()
    writable = _check_storage(int(time.monotonic() // STORAGE_SECONDS))
    ready = database == redis == writable == "ok"
    body: answers.Readiness = {
        "status": "ok" if ready else "unavailable",
        "database": database,
        "redis": redis,
        "storage": writable,
        "default_model": _check_default_model() if database == "ok" else "unknown",
        "workers": _count_live_workers() if database == "ok" else None,
    }
    return JsonResponse(body, status=200 if ready else 503)


def _check_database() -> str:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, InterfaceError):
        return "does not answer"
    return "migrations are missing" if missing else "ok"


def _check_redis() -> str:
    try:
        progress.client.ping()
    except RedisError:
        return "does not answer"
    return "ok"


@lru_cache(maxsize=1)
def _check_storage(moment: int) -> str:
    """Check the storage once per `moment`, the key of the cache."""
    try:
        storage.check_writable()
    except StorageError:
        return "is not writable"
    return "ok"


def _check_default_model() -> str:
    try:
        resolve.resolve_model(None)
    except ModelNotAllowedError:
        return "is not allowed"
    return "ok"


def _count_live_workers() -> int:
    return workers.list_workers().filter(state__in=workers.ALIVE_STATES).count()
