"""Operations of the plain views, which drf-spectacular does not find."""

from __future__ import annotations

from typing import Any

from tasks_app.api.openapi.describe import component_ref
from tasks_app.api.openapi.errors import get_error_name

Schema = dict[str, Any]


def _build_response(description: str, media_type: str, schema: Schema) -> Schema:
    headers = {"X-Request-ID": component_ref("headers", "X-Request-ID")}
    return {"description": description, "headers": headers, "content": {media_type: {"schema": schema}}}


def _build_probe(name: str, summary: str, responses: dict[str, Schema], description: str = "") -> Schema:
    described = "\n\n".join(part for part in (description, "Needs no key.") if part)
    operation = {"operationId": name, "tags": ["service"], "summary": summary, "description": described}
    return {"get": {**operation, "security": [], "responses": responses}}


_HEALTH, _READINESS = (component_ref("schemas", name) for name in ("Health", "Readiness"))
PROBES = {
    "/healthz": _build_probe(
        "health",
        "Report that the process is up.",
        {"200": _build_response("The process is up.", "application/json", _HEALTH)},
    ),
    "/readyz": _build_probe(
        "readiness",
        "Report whether the service can work.",
        {
            "200": _build_response(
                "The database, Redis and the storage are usable, and all migrations are applied.",
                "application/json",
                _READINESS,
            ),
            "503": _build_response("A part of the service is unavailable.", "application/json", _READINESS),
        },
    ),
    "/metrics": _build_probe(
        "metrics",
        "Return all metrics for Prometheus.",
        {
            "200": _build_response("The metrics.", "text/plain", {"type": "string"}),
            "401": component_ref("responses", get_error_name("/metrics", 401)),
        },
        "If METRICS_TOKEN is set, send it as a bearer token.",
    ),
}
