"""Components that operations refer to, and the hooks of drf-spectacular."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks_app.api.compat.a1111_lists import EMPTY_RESPONSES
from tasks_app.api.http.signed_urls import SIGNATURE_PARAMETER
from tasks_app.api.live.sse import MAX_TASKS
from tasks_app.api.openapi.answers import build_answer_schemas
from tasks_app.api.openapi.compat import build_body_schemas
from tasks_app.api.openapi.describe import component_ref
from tasks_app.api.openapi.errors import build_error_responses, build_error_schemas
from tasks_app.api.openapi.examples import build_example
from tasks_app.api.openapi.fields import build_params_schema
from tasks_app.api.openapi.generator import SIGNED_URL_SCHEME
from tasks_app.api.openapi.probes import PROBES
from tasks_app.models import Status

Schema = dict[str, Any]
_UUID: Schema = {"type": "string", "format": "uuid"}


def strip_trailing_slashes(endpoints: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the endpoints under their documented paths, without the optional trailing slash."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints]


def complete_schema(result: Schema, **kwargs: Any) -> Schema:
    """Add the endpoints that are not DRF views, the components, the links and the examples."""
    result["paths"].update(PROBES)
    for kind, more in _build_components(result["paths"]).items():
        result["components"].setdefault(kind, {}).update(more)
    for operation in _iter_operations(result["paths"]):
        _add_links(operation)
        _add_examples(operation, result["components"]["schemas"])
    return result


def _iter_operations(paths: Schema) -> Iterator[Schema]:
    return (operation for path in paths.values() for operation in path.values())


def _add_links(operation: Schema) -> None:
    status, names = LINKED_RESPONSES.get(operation["operationId"], ("", ()))
    if names:
        operation["responses"][status]["links"] = {name: component_ref("links", name) for name in names}


def _add_examples(operation: Schema, schemas: dict[str, Schema]) -> None:
    """Add examples of the service's own answers; other APIs' clients know theirs."""
    if operation["tags"] in (["OpenAI"], ["A1111"]) or operation["operationId"] == "getSchema":
        return
    for status in ("200", "201"):
        for media_type, content in operation["responses"].get(status, {}).get("content", {}).items():
            if media_type in ("application/json", "text/event-stream"):
                content["example"] = build_example(content["schema"], schemas)


def _build_components(paths: Schema) -> dict[str, dict[str, Schema]]:
    """Return all components except those generated from serializers, by kind and name."""
    used = {
        response.get("$ref", "").rpartition("/")[2]
        for operation in _iter_operations(paths)
        for response in operation["responses"].values()
    }
    return {
        "schemas": {
            **build_answer_schemas(),
            "TaskParams": build_params_schema(),
            **build_error_schemas(),
            **build_body_schemas(),
        },
        "parameters": PARAMETERS,
        "headers": HEADERS,
        "links": LINKS,
        "responses": {name: response for name, response in build_error_responses().items() if name in used},
        "securitySchemes": SECURITY_SCHEMES,
    }


def _build_parameter(place: str, name: str, description: str, schema: Schema, **more: Any) -> Schema:
    return {"in": place, "name": name, "description": description, "schema": schema, **more}


def _path_parameter(name: str, description: str, schema: Schema) -> Schema:
    return _build_parameter("path", name, description, schema, required=True)


PARAMETERS = {
    "task_id": _path_parameter("task_id", "The task's id.", _UUID),
    "upload_id": _path_parameter("upload_id", "The upload's id.", _UUID),
    "index": _path_parameter(
        "index", "Index of the image in the task, from 0.", {"type": "integer", "minimum": 0, "maximum": 999}
    ),
    "name": _path_parameter("name", "A model's public name.", {"type": "string", "minLength": 1}),
    "what": _path_parameter(
        "what", "Name of a list that is empty on this server.", {"type": "string", "enum": sorted(EMPTY_RESPONSES)}
    ),
    "skip_current_image": _build_parameter(
        "query", "skip_current_image", "`true` leaves out the preview.", {"type": "string"}
    ),
    "status": _build_parameter(
        "query", "status", "Only tasks with this status.", {"type": "string", "enum": Status.values}
    ),
    "model_id": _build_parameter(
        "query",
        "model_id",
        "Only tasks of this model; any of its names.",
        {"type": "string", "pattern": r"^[^\u0000]*$"},
    ),
    "limit": _build_parameter(
        "query", "limit", "Number of tasks per page.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    ),
    "cursor": _build_parameter(
        "query", "cursor", "Position of the page, from `next` or `previous`.", {"type": "string"}
    ),
    "task": _build_parameter(
        "query",
        "task",
        "Id of a task; repeat the parameter for more tasks.",
        {"type": "array", "items": _UUID, "minItems": 1, "maxItems": MAX_TASKS},
        required=True,
        explode=True,
        style="form",
    ),
    "Idempotency-Key": _build_parameter(
        "header",
        "Idempotency-Key",
        "Key of this request. If you send it again, the response is the task that it created before.",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "Prefer": _build_parameter(
        "header",
        "Prefer",
        "`wait=N` defers the response until the task has ended, for up to N seconds.",
        {"type": "string"},
    ),
    "Last-Event-ID": _build_parameter(
        "header",
        "Last-Event-ID",
        "Id of the last event that the client received; the stream starts with those after it.",
        {"type": "string"},
    ),
    "If-None-Match": _build_parameter("header", "If-None-Match", "`ETag` of the client's copy.", {"type": "string"}),
    "If-Match": _build_parameter("header", "If-Match", "`ETag` that the image must have.", {"type": "string"}),
}


def _build_header(description: str, schema: Schema, *, required: bool = True) -> Schema:
    return {"description": description, "schema": schema, **({"required": True} if required else {})}


HEADERS = {
    "Location": _build_header("URL of the task or image.", {"type": "string", "format": "uri-reference"}),
    "Idempotency-Replayed": _build_header("An earlier request with this key created the task.", {"const": "true"}),
    "Preference-Applied": _build_header(
        "Maximum time for which the response was deferred.", {"type": "string"}, required=False
    ),
    "ETag": _build_header("Identifies the content.", {"type": "string"}),
    "Cache-Control": _build_header("How long the content may be cached.", {"type": "string"}),
    "Retry-After": _build_header("Seconds to wait before the next try.", {"type": "integer", "minimum": 0}),
    "X-Request-ID": _build_header("Id of the request in the server's log.", {"type": "string"}, required=False),
    "WWW-Authenticate": _build_header("How to authenticate.", {"type": "string"}),
}


def _build_link(operation: str, id_from: str, description: str) -> Schema:
    return {"operationId": operation, "parameters": {"task_id": id_from}, "description": description}


LINKS = {
    "task": _build_link("getTask", "$response.body#/id", "The task."),
    "cancel": _build_link("cancelTask", "$response.body#/id", "Cancel the task."),
    "images": _build_link("listImages", "$response.body#/id", "The task's images."),
    "links": _build_link("signLinks", "$response.body#/id", "Signed URLs that need no key."),
    "events": _build_link("streamTask", "$response.body#/id", "The task's events."),
}
_NEW_TASK_LINKS = ("task", "cancel", "images", "links")
LINKED_RESPONSES = {
    "submitTask": ("201", _NEW_TASK_LINKS),
    "reproduceTask": ("201", _NEW_TASK_LINKS),
    "cancelTask": ("200", ("task", "events")),
}
SECURITY_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key, `dh_…`."},
    "basic": {"type": "http", "scheme": "basic", "description": "The key as password; the user name is ignored."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "sessionid",
        "description": "Session of the admin; requests that change something also need `X-CSRFToken`.",
    },
    SIGNED_URL_SCHEME: {
        "type": "apiKey",
        "in": "query",
        "name": SIGNATURE_PARAMETER,
        "description": "Part of the URLs of `GET /task/{task_id}/links`; allows reading this URL for a limited time.",
    },
}
