"""What the operations of the schema refer to: parameters, headers, links, refusals, and the ways to say who asks."""

from __future__ import annotations

from typing import Any

from tasks_app.api.http.error_bodies import shaped
from tasks_app.api.http.signed_urls import PARAMETER
from tasks_app.api.live.sse import MAX_TASKS
from tasks_app.api.openapi import compat, shapes
from tasks_app.api.openapi.errors import REFUSALS
from tasks_app.api.openapi.operations import JSON, SIGNED, headers, ref, refused
from tasks_app.api.openapi.table import OPERATIONS
from tasks_app.models import Status

Schema = dict[str, Any]
# By whose shape refusals have: where such paths begin.
PREFIXES = {"": "/", "OpenAI": "/v1/", "A1111": "/sdapi/"}


def everything() -> dict[str, dict[str, Schema]]:
    """Return all components but the bodies of requests, by kind and name."""
    return {
        "schemas": shapes.schemas() | compat.bodies(),
        "parameters": PARAMETERS,
        "headers": HEADERS,
        "links": LINKS,
        "responses": _responses(),
        "securitySchemes": SECURITY,
    }


def _responses() -> dict[str, Schema]:
    """Return the refusals that there are, in each shape."""
    told = {(operation.kind, status) for operation in OPERATIONS.values() for status in refused(operation)}
    return {kind + REFUSALS[status].name: _response(kind, status) for kind, status in sorted(told)}


def _response(kind: str, status: int) -> Schema:
    refusal = REFUSALS[status]
    name = f"{kind}Error" if kind else refusal.name
    example = shaped(PREFIXES[kind], status, refusal.example)
    content = {JSON: {"schema": ref("schemas", name), "example": example}}
    return {"description": refusal.says, "headers": headers(refusal.headers), "content": content}


def _parameter(place: str, name: str, description: str, schema: Schema, **more: Any) -> Schema:
    return {"in": place, "name": name, "description": description, "schema": schema, **more}


def _path(name: str, description: str, schema: Schema) -> Schema:
    return _parameter("path", name, description, schema, required=True)


PARAMETERS = {
    "task_id": _path("task_id", "The task's id.", shapes.UUID),
    "upload_id": _path("upload_id", "The upload's id.", shapes.UUID),
    "index": _path(
        "index", "Which of the task's pictures; the first is 0.", {"type": "integer", "minimum": 0, "maximum": 999}
    ),
    "name": _path("name", "A model's public name.", {"type": "string", "minLength": 1}),
    "what": _path("what", "What this server has none of.", {"type": "string", "enum": compat.NOTHING}),
    "skip_current_image": _parameter(
        "query", "skip_current_image", "`true` leaves the picture out.", {"type": "string"}
    ),
    "status": _parameter("query", "status", "Only tasks of this status.", {"type": "string", "enum": Status.values}),
    "model_id": _parameter(
        "query",
        "model_id",
        "Only tasks of this model, by any of its names.",
        {"type": "string", "pattern": r"^[^\u0000]*$"},
    ),
    "limit": _parameter(
        "query", "limit", "How many tasks a page has.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    ),
    "cursor": _parameter("query", "cursor", "Which page; `next` and `previous` have it.", {"type": "string"}),
    "task": _parameter(
        "query",
        "task",
        "The id of a task; repeat it for more.",
        {"type": "array", "items": shapes.UUID, "minItems": 1, "maxItems": MAX_TASKS},
        required=True,
        explode=True,
        style="form",
    ),
    "Idempotency-Key": _parameter(
        "header",
        "Idempotency-Key",
        "A name for this request: sent again, it is answered with the task that it made before.",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "Prefer": _parameter(
        "header",
        "Prefer",
        "`wait=N` holds the answer for up to N seconds, until the task has ended.",
        {"type": "string"},
    ),
    "Last-Event-ID": _parameter(
        "header",
        "Last-Event-ID",
        "The id of the last event that was seen: what came after it is told first.",
        {"type": "string"},
    ),
    "If-None-Match": _parameter("header", "If-None-Match", "The `ETag` of what the client has.", {"type": "string"}),
    "If-Match": _parameter("header", "If-Match", "The `ETag` that is wanted, and no other.", {"type": "string"}),
}


def _header(description: str, schema: Schema, *, required: bool = True) -> Schema:
    return {"description": description, "schema": schema, **({"required": True} if required else {})}


HEADERS = {
    "Location": _header("Where it is.", {"type": "string", "format": "uri-reference"}),
    "Idempotency-Replayed": _header("The task was made by an earlier request of this name.", {"const": "true"}),
    "Preference-Applied": _header("For how long the answer was held at most.", {"type": "string"}, required=False),
    "ETag": _header("Names these very bytes.", {"type": "string"}),
    "Cache-Control": _header("How long they may be kept.", {"type": "string"}),
    "Retry-After": _header("Seconds until another try is worth it.", {"type": "integer", "minimum": 0}),
    "X-Request-ID": _header("What the log's lines of this request carry.", {"type": "string"}, required=False),
    "WWW-Authenticate": _header("How to say who asks.", {"type": "string"}),
}


def _link(operation: str, id_from: str, description: str) -> Schema:
    return {"operationId": operation, "parameters": {"task_id": id_from}, "description": description}


LINKS = {
    "task": _link("getTask", "$response.body#/id", "The task."),
    "cancel": _link("cancelTask", "$response.body#/id", "Cancels it."),
    "images": _link("listImages", "$response.body#/id", "Its pictures."),
    "links": _link("signLinks", "$response.body#/id", "Addresses that need no key."),
    "events": _link("streamTask", "$response.body#/id", "What happens to it."),
}
SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key, `dh_…`."},
    "basic": {"type": "http", "scheme": "basic", "description": "The key for a password; the name is not looked at."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "sessionid",
        "description": "Signed in to the admin; what changes something needs `X-CSRFToken`, too.",
    },
    SIGNED: {
        "type": "apiKey",
        "in": "query",
        "name": PARAMETER,
        "description": "An address of `GET /task/{task_id}/links`: reads this one thing for a while.",
    },
}
