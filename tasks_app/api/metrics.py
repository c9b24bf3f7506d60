"""`GET /metrics` for Prometheus, protected by METRICS_TOKEN if it is set."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from tasks_app.api.health import probe_endpoint
from tasks_app.api.http.error_bodies import build_error_body
from tasks_app.metrics import render_metrics


@probe_endpoint
async def metrics_view(request: HttpRequest) -> HttpResponse:
    """Return all metrics in Prometheus' text format."""
    if not _has_metrics_token(request):
        answer = build_error_body("unauthorized", "Send METRICS_TOKEN as a bearer token.")
        return JsonResponse(answer, status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(await sync_to_async(render_metrics)(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _has_metrics_token(request: HttpRequest) -> bool:
    token = settings.METRICS_TOKEN
    return token is None or constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {token}")
