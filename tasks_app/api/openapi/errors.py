"""Error responses of the API by status: their codes, an example and the schema of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app import answers
from tasks_app.api.http.error_bodies import adapt_error_body, build_error_body
from tasks_app.api.openapi.answers import schema_of_answer
from tasks_app.api.openapi.describe import component_ref

# Statuses that only the compatibility APIs return, because they hold a response until the task has ended.
COMPAT_ONLY_STATUSES = (500, 504)

# Prefixes of the paths under which errors have the format of another API.
FORMATS = {"/v1/": "OpenAI", "/sdapi/": "A1111"}


@dataclass(frozen=True)
class ErrorResponseSpec:
    """Error response of one status; its example has the first code.

    `fields` and `limit` are examples of members that only this error has. The latter is always there, but not every
    request that can't be read has fields.
    """

    name: str
    description: str
    codes: tuple[str, ...]
    headers: tuple[str, ...] = ()
    retryable: bool = False
    fields: tuple[answers.InvalidField, ...] = ()
    limit: answers.Limit | None = None

    def build_example(self) -> answers.ErrorBody:
        """Return an example of the response's body."""
        return build_error_body(
            self.codes[0],
            self.description,
            retryable=self.retryable,
            fields=list(self.fields) or None,
            limit=self.limit,
        )


ERROR_RESPONSES = {
    400: ErrorResponseSpec(
        "Invalid",
        "Values are invalid, and `fields` lists them; or the request can't be read.",
        ("invalid_params", "model_not_allowed", "invalid_image", "bad_request"),
        fields=({"path": "params.steps", "code": "invalid", "message": "Must be an integer."},),
    ),
    401: ErrorResponseSpec(
        "Unauthorized",
        "The key is missing, unknown, expired or revoked.",
        ("unauthorized",),
        headers=("WWW-Authenticate",),
    ),
    403: ErrorResponseSpec(
        "Forbidden", "The caller lacks the scope, or the request of a session its CSRF token.", ("forbidden",)
    ),
    404: ErrorResponseSpec("NotFound", "It does not exist, or belongs to another caller.", ("not_found",)),
    406: ErrorResponseSpec("NotAcceptable", "The client does not accept JSON.", ("not_acceptable",)),
    409: ErrorResponseSpec(
        "Conflict",
        "The task was canceled; or it can't be reproduced, because it has not succeeded.",
        ("canceled", "not_reproducible"),
    ),
    410: ErrorResponseSpec("Gone", "The image was purged.", ("gone",)),
    412: ErrorResponseSpec(
        "PreconditionFailed", "The image does not have the `ETag` of `If-Match`.", ("precondition_failed",)
    ),
    413: ErrorResponseSpec("BodyTooLarge", "The body is larger than the server allows.", ("body_too_large",)),
    415: ErrorResponseSpec(
        "UnsupportedMediaType",
        "The server does not support the body's `Content-Type`.",
        ("unsupported_media_type",),
    ),
    422: ErrorResponseSpec(
        "KeyReused",
        "The `Idempotency-Key` was used before, for a request with another body.",
        ("idempotency_key_reused",),
    ),
    429: ErrorResponseSpec(
        "LimitExceeded",
        "The key has reached a limit, named in `limit`.",
        ("limit_exceeded",),
        headers=("Retry-After",),
        retryable=True,
        limit={"name": "queued_tasks", "max": 1000},
    ),
    500: ErrorResponseSpec("Failed", "The task failed.", ("internal",), retryable=True),
    503: ErrorResponseSpec(
        "Unavailable",
        "The database or the storage is unavailable.",
        ("unavailable", "storage_failed"),
        headers=("Retry-After",),
        retryable=True,
    ),
    504: ErrorResponseSpec(
        "Late",
        "The task has not ended in time and continues, or its deadline has passed.",
        ("wait_timeout", "timed_out"),
    ),
}


def get_error_name(path: str, status: int) -> str:
    """Return the name of the component for an error response of an endpoint."""
    kinds = [kind for prefix, kind in FORMATS.items() if path.startswith(prefix)]
    return "".join(kinds) + ERROR_RESPONSES[status].name


def build_error_responses() -> dict[str, dict[str, Any]]:
    """Return the error responses in all formats by the names of their components."""
    return {
        get_error_name(path, status): _build_error_response(path, kind or response.name, status)
        for path, kind in {"/": "", **FORMATS}.items()
        for status, response in ERROR_RESPONSES.items()
    }


def _build_error_response(path: str, name: str, status: int) -> dict[str, Any]:
    response = ERROR_RESPONSES[status]
    schema = component_ref("schemas", f"{name}Error" if path in FORMATS else name)
    example = adapt_error_body(path, status, response.build_example())
    headers = {header: component_ref("headers", header) for header in (*response.headers, "X-Request-ID")}
    return {
        "description": response.description,
        "headers": headers,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def build_error_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas of the API's own error responses by name."""
    responses = {status: response for status, response in ERROR_RESPONSES.items() if status not in COMPAT_ONLY_STATUSES}
    return {response.name: _build_error_schema(response) for response in responses.values()}


def _build_error_schema(response: ErrorResponseSpec) -> dict[str, Any]:
    """Return the schema of an error body with only the codes and members that this response can have."""
    body = schema_of_answer(answers.ErrorBody)
    error = body["properties"]["error"]
    shown = response.build_example()["error"]
    members = {name: error["properties"][name] for name in shown}
    members["code"] = {"type": "string", "enum": list(response.codes)}
    required = [name for name in shown if name != "fields"]
    body["properties"]["error"] = {**error, "required": required, "properties": members}
    return {**body, "description": response.description}
