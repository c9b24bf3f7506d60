"""Types of the table of endpoints, and their rendering as OpenAPI objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from django.conf import settings
from rest_framework.serializers import Serializer

from tasks_app.api.openapi.errors import ERROR_RESPONSES
from tasks_app.models import Scope

JSON = "application/json"
Schema = dict[str, Any]
# Signed URLs are a scheme of their own, because they only allow reading.
AUTH_SCHEMES = ("key", "basic", "session")
SIGNED_URL_SCHEME = "signature"


def component_ref(kind: str, name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def header_refs(names: tuple[str, ...]) -> Schema:
    """Return references to these headers and to those that every response has."""
    return {name: component_ref("headers", name) for name in (*names, "X-Request-ID")}


@dataclass(frozen=True, kw_only=True)
class ResponseSpec:
    """Response other than an error.

    `content` maps media types to schemas; `headers` and `links` are names of components.
    """

    description: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    example: Any = None
    headers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One endpoint.

    `parameters` are names of components. `body` is a serializer, or maps media types to schemas. `refusals` are its
    error statuses besides those that every endpoint has; `kind` is the compatibility API whose error format it uses.
    `scope` is required of the caller, None for public endpoints; a `signed` endpoint also accepts signed URLs.
    """

    id: str
    tag: str
    summary: str
    answers: Mapping[int, ResponseSpec]
    description: str = ""
    parameters: tuple[str, ...] = ()
    body: type[Serializer[Any]] | Mapping[str, Schema] | None = None
    examples: Mapping[str, Any] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()
    scope: Scope | None = Scope.READ
    signed: bool = False
    kind: Literal["", "OpenAI", "A1111"] = ""


def render_operation(operation: Operation, body: Mapping[str, Schema]) -> Schema:
    """Return the OpenAPI object of an operation; `body` maps media types to the schemas of its body."""
    found = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": _build_description(operation),
        "parameters": [component_ref("parameters", name) for name in operation.parameters],
        "requestBody": _build_request_body(operation, body),
        "responses": _build_responses(operation),
    }
    return {**{name: value for name, value in found.items() if value}, "security": _build_security(operation)}


def _build_description(operation: Operation) -> str:
    needs = f"Needs the scope `{operation.scope}`." if operation.scope else "Needs no key."
    return "\n\n".join(part for part in (operation.description, needs) if part)


def _build_request_body(operation: Operation, schemas: Mapping[str, Schema]) -> Schema:
    content = {kind: {"schema": schema, **_build_examples(operation)} for kind, schema in schemas.items()}
    return {"required": True, "content": content} if content else {}


def _build_examples(operation: Operation) -> Schema:
    found = {name: {"value": value} for name, value in operation.examples.items()}
    return {"examples": found} if found else {}


def _build_security(operation: Operation) -> list[Schema]:
    if operation.scope is None:
        return []
    ways: list[Schema] = [{name: []} for name in (*AUTH_SCHEMES, SIGNED_URL_SCHEME)[: None if operation.signed else -1]]
    return [*ways, {}] if settings.API_AUTH == "optional" else ways


def _build_responses(operation: Operation) -> Schema:
    answers = {str(status): _build_response(answer) for status, answer in operation.answers.items()}
    names = {str(status): operation.kind + ERROR_RESPONSES[status].name for status in get_error_statuses(operation)}
    refusals = {status: component_ref("responses", name) for status, name in names.items()}
    return dict(sorted({**refusals, **answers}.items()))


def get_error_statuses(operation: Operation) -> Iterable[int]:
    """Return all error statuses of an operation."""
    asks = () if operation.scope is None else (400, 401, 403, 429, 503)
    brings = () if operation.body is None else (413, 415)
    return {*asks, *brings, *operation.refusals}


def _build_response(answer: ResponseSpec) -> Schema:
    example = {} if answer.example is None else {"example": answer.example}
    found = {
        "description": answer.description,
        "headers": header_refs(answer.headers),
        "content": {kind: {"schema": schema, **example} for kind, schema in answer.content.items()},
        "links": {name: component_ref("links", name) for name in answer.links},
    }
    return {name: value for name, value in found.items() if value}
