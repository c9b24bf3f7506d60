"""Short forms for `@extend_schema` on the views; the generator adds what follows from a view's own attributes."""

from __future__ import annotations

from typing import Any, get_args

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from tasks_app.engine.types import OutputFormat

Schema = dict[str, Any]
OBJECT: Schema = {"type": "object", "additionalProperties": True}
BYTES: Schema = {"type": "string", "format": "binary"}
IMAGE_TYPES = tuple(f"image/{kind}" for kind in get_args(OutputFormat))
IMAGE_BODY = dict.fromkeys(IMAGE_TYPES, BYTES)
# Statuses of a compatibility API's response if the task does not succeed while the client waits.
WAIT_ERRORS = dict.fromkeys((409, 410, 422, 500, 503, 504))


def component_ref(kind: str, name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def build_parameters(*names: str) -> list[OpenApiParameter]:
    """Return the request's parameters, which components.py describes by these names."""
    return [OpenApiParameter(name) for name in names]


def build_headers(*names: str, status: int) -> list[OpenApiParameter]:
    """Return the headers of the response with this status, which components.py describes by these names."""
    return [OpenApiParameter(name, location="header", response=[status]) for name in names]


def build_response(answer: type, description: str) -> OpenApiResponse:
    """Return the response with this answer."""
    return OpenApiResponse(component_ref("schemas", answer.__name__), description)


def build_list_response(answer: type, description: str) -> OpenApiResponse:
    """Return the response with a list of these answers."""
    return OpenApiResponse({"type": "array", "items": component_ref("schemas", answer.__name__)}, description)
