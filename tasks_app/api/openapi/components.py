"""Components that operations refer to: parameters, headers, links, error responses and security schemes."""

from __future__ import annotations

from typing import Any

from tasks_app.api.http.error_bodies import adapt_error_body
from tasks_app.api.http.signed_urls import SIGNATURE_PARAMETER
from tasks_app.api.live.sse import MAX_TASKS
from tasks_app.api.openapi import compat
from tasks_app.api.openapi.answers import build_answer_schemas
from tasks_app.api.openapi.errors import ERROR_RESPONSES, build_error_schemas
from tasks_app.api.openapi.fields import build_params_schema
from tasks_app.api.openapi.operations import JSON, SIGNED_URL_SCHEME, component_ref, get_error_statuses, header_refs
from tasks_app.api.openapi.table import OPERATIONS
from tasks_app.models import Status

Schema = dict[str, Any]
_UUID: Schema = {"type": "string", "format": "uuid"}
# Path prefixes by the API whose error format they use.
PATH_PREFIXES = {"": "/", "OpenAI": "/v1/", "A1111": "/sdapi/"}


def build_components() -> dict[str, dict[str, Schema]]:
    """Return all components except those generated from serializers, by kind and name."""
    return {
        "schemas": {
            **build_answer_schemas(),
            "TaskParams": build_params_schema(),
            **build_error_schemas(),
            **compat.build_body_schemas(),
        },
        "parameters": PARAMETERS,
        "headers": HEADERS,
        "links": LINKS,
        "responses": _build_responses(),
        "securitySchemes": SECURITY_SCHEMES,
    }


def _build_responses() -> dict[str, Schema]:
    """Return the error responses in use, in each format."""
    told = {(operation.kind, status) for operation in OPERATIONS.values() for status in get_error_statuses(operation)}
    return {kind + ERROR_RESPONSES[status].name: _build_response(kind, status) for kind, status in sorted(told)}


def _build_response(kind: str, status: int) -> Schema:
    refusal = ERROR_RESPONSES[status]
    name = f"{kind}Error" if kind else refusal.name
    example = adapt_error_body(PATH_PREFIXES[kind], status, refusal.example)
    content = {JSON: {"schema": component_ref("schemas", name), "example": example}}
    return {"description": refusal.description, "headers": header_refs(refusal.headers), "content": content}


def _build_parameter(place: str, name: str, description: str, schema: Schema, **more: Any) -> Schema:
    return {"in": place, "name": name, "description": description, "schema": schema, **more}


def _path_parameter(name: str, description: str, schema: Schema) -> Schema:
    return _build_parameter("path", name, description, schema, required=True)


PARAMETERS = {
    "task_id": _path_parameter("task_id", "The task's id.", _UUID),
    "upload_id": _path_parameter("upload_id", "The upload's id.", _UUID),
    "index": _path_parameter(
        "index", "Which of the task's pictures; the first is 0.", {"type": "integer", "minimum": 0, "maximum": 999}
    ),
    "name": _path_parameter("name", "A model's public name.", {"type": "string", "minLength": 1}),
    "what": _path_parameter(
        "what", "What this server has none of.", {"type": "string", "enum": compat.EMPTY_LIST_NAMES}
    ),
    "skip_current_image": _build_parameter(
        "query", "skip_current_image", "`true` leaves the picture out.", {"type": "string"}
    ),
    "status": _build_parameter(
        "query", "status", "Only tasks of this status.", {"type": "string", "enum": Status.values}
    ),
    "model_id": _build_parameter(
        "query",
        "model_id",
        "Only tasks of this model, by any of its names.",
        {"type": "string", "pattern": r"^[^\u0000]*$"},
    ),
    "limit": _build_parameter(
        "query", "limit", "How many tasks a page has.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    ),
    "cursor": _build_parameter("query", "cursor", "Which page; `next` and `previous` have it.", {"type": "string"}),
    "task": _build_parameter(
        "query",
        "task",
        "The id of a task; repeat it for more.",
        {"type": "array", "items": _UUID, "minItems": 1, "maxItems": MAX_TASKS},
        required=True,
        explode=True,
        style="form",
    ),
    "Idempotency-Key": _build_parameter(
        "header",
        "Idempotency-Key",
        "A name for this request: sent again, it is answered with the task that it made before.",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "Prefer": _build_parameter(
        "header",
        "Prefer",
        "`wait=N` holds the answer for up to N seconds, until the task has ended.",
        {"type": "string"},
    ),
    "Last-Event-ID": _build_parameter(
        "header",
        "Last-Event-ID",
        "The id of the last event that was seen: what came after it is told first.",
        {"type": "string"},
    ),
    "If-None-Match": _build_parameter(
        "header", "If-None-Match", "The `ETag` of what the client has.", {"type": "string"}
    ),
    "If-Match": _build_parameter("header", "If-Match", "The `ETag` that is wanted, and no other.", {"type": "string"}),
}


def _build_header(description: str, schema: Schema, *, required: bool = True) -> Schema:
    return {"description": description, "schema": schema, **({"required": True} if required else {})}


HEADERS = {
    "Location": _build_header("Where it is.", {"type": "string", "format": "uri-reference"}),
    "Idempotency-Replayed": _build_header("The task was made by an earlier request of this name.", {"const": "true"}),
    "Preference-Applied": _build_header(
        "For how long the answer was held at most.", {"type": "string"}, required=False
    ),
    "ETag": _build_header("Names these very bytes.", {"type": "string"}),
    "Cache-Control": _build_header("How long they may be kept.", {"type": "string"}),
    "Retry-After": _build_header("Seconds until another try is worth it.", {"type": "integer", "minimum": 0}),
    "X-Request-ID": _build_header("What the log's lines of this request carry.", {"type": "string"}, required=False),
    "WWW-Authenticate": _build_header("How to say who asks.", {"type": "string"}),
}


def _build_link(operation: str, id_from: str, description: str) -> Schema:
    return {"operationId": operation, "parameters": {"task_id": id_from}, "description": description}


LINKS = {
    "task": _build_link("getTask", "$response.body#/id", "The task."),
    "cancel": _build_link("cancelTask", "$response.body#/id", "Cancels it."),
    "images": _build_link("listImages", "$response.body#/id", "Its pictures."),
    "links": _build_link("signLinks", "$response.body#/id", "Addresses that need no key."),
    "events": _build_link("streamTask", "$response.body#/id", "What happens to it."),
}
SECURITY_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key, `dh_…`."},
    "basic": {"type": "http", "scheme": "basic", "description": "The key for a password; the name is not looked at."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "sessionid",
        "description": "Signed in to the admin; what changes something needs `X-CSRFToken`, too.",
    },
    SIGNED_URL_SCHEME: {
        "type": "apiKey",
        "in": "query",
        "name": SIGNATURE_PARAMETER,
        "description": "An address of `GET /task/{task_id}/links`: reads this one thing for a while.",
    },
}
