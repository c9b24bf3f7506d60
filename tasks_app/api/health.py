"""Probes: is the process up, and can it work."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from redis import RedisError

from tasks_app import progress


async def healthz(request: HttpRequest) -> JsonResponse:
    """Answer that the process is up; touches nothing."""
    return JsonResponse({"status": "ok"})


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
