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


@dataclass(frozen=True, kw_only=True)
class ErrorResponseSpec:
    """Error response of one status; `more_members` names members besides code, message and retryable.

    They are required, except `fields`: not every request that can't be read has them.
    """

    name: str
    description: str
    codes: tuple[str, ...]
    example: answers.ErrorBody
    headers: tuple[str, ...] = ()
    more_members: tuple[str, ...] = ()


_FIELD: answers.InvalidField = {"path": "params.steps", "code": "invalid", "message": "Must be an integer."}
ERROR_RESPONSES = {
    400: ErrorResponseSpec(
        name="Invalid",
        description="Values are invalid, and `fields` lists them; or the request can't be read.",
        codes=("invalid_params", "model_not_allowed", "invalid_image", "bad_request"),
        more_members=("fields",),
        example=build_error_body("invalid_params", "params.steps: Must be an integer.", fields=[_FIELD]),
    ),
    401: ErrorResponseSpec(
        name="Unauthorized",
        description="The key is missing, unknown, expired or revoked.",
        codes=("unauthorized",),
        example=build_error_body("unauthorized", "This API key is unknown, expired or revoked."),
        headers=("WWW-Authenticate",),
    ),
    403: ErrorResponseSpec(
        name="Forbidden",
        description="The caller lacks the scope, or the request of a session its CSRF token.",
        codes=("forbidden",),
        example=build_error_body("forbidden", "This needs a scope that the caller does not have."),
    ),
    404: ErrorResponseSpec(
        name="NotFound",
        description="It does not exist, or belongs to another caller.",
        codes=("not_found",),
        example=build_error_body("not_found", "There is no such thing here."),
    ),
    406: ErrorResponseSpec(
        name="NotAcceptable",
        description="The client does not accept JSON.",
        codes=("not_acceptable",),
        example=build_error_body("not_acceptable", "Could not satisfy the request Accept header."),
    ),
    409: ErrorResponseSpec(
        name="Conflict",
        description="The task was canceled; or it can't be reproduced, because it has not succeeded.",
        codes=("canceled", "not_reproducible"),
        example=build_error_body("canceled", "Somebody canceled the task."),
    ),
    410: ErrorResponseSpec(
        name="Gone",
        description="The image was purged.",
        codes=("gone",),
        example=build_error_body("gone", "The picture was purged: this server keeps pictures for a limited time."),
    ),
    412: ErrorResponseSpec(
        name="PreconditionFailed",
        description="The image does not have the `ETag` of `If-Match`.",
        codes=("precondition_failed",),
        example=build_error_body("precondition_failed", "The picture is another than the request names."),
    ),
    413: ErrorResponseSpec(
        name="BodyTooLarge",
        description="The body is larger than the server allows.",
        codes=("body_too_large",),
        example=build_error_body("body_too_large", "The body must have at most 262144 bytes."),
    ),
    415: ErrorResponseSpec(
        name="UnsupportedMediaType",
        description="The server does not support the body's `Content-Type`.",
        codes=("unsupported_media_type",),
        example=build_error_body("unsupported_media_type", 'Unsupported media type "text/plain" in request.'),
    ),
    422: ErrorResponseSpec(
        name="KeyReused",
        description="The `Idempotency-Key` was used before, for a request with another body.",
        codes=("idempotency_key_reused",),
        example=build_error_body(
            "idempotency_key_reused", "The Idempotency-Key was used before, for a request with another body."
        ),
    ),
    429: ErrorResponseSpec(
        name="LimitExceeded",
        description="The key has reached a limit, named in `limit`.",
        codes=("limit_exceeded",),
        example=build_error_body(
            "limit_exceeded",
            "This key may have at most 1000 queued tasks.",
            retryable=True,
            limit={"name": "queued_tasks", "max": 1000},
        ),
        headers=("Retry-After",),
        more_members=("limit",),
    ),
    500: ErrorResponseSpec(
        name="Failed",
        description="The task failed.",
        codes=("internal",),
        example=build_error_body("internal", "The task failed.", retryable=True),
    ),
    503: ErrorResponseSpec(
        name="Unavailable",
        description="The database or the storage is unavailable.",
        codes=("unavailable", "storage_failed"),
        example=build_error_body("unavailable", "The service can't reach its database; try again.", retryable=True),
        headers=("Retry-After",),
    ),
    504: ErrorResponseSpec(
        name="Late",
        description="The task has not ended in time and continues, or its deadline has passed.",
        codes=("wait_timeout", "timed_out"),
        example=build_error_body("wait_timeout", "The task has not ended within 300 seconds; it goes on."),
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
    example = adapt_error_body(path, status, response.example)
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
    members = {name: error["properties"][name] for name in (*error["required"], *response.more_members)}
    members["code"] = {"type": "string", "enum": list(response.codes)}
    required = [name for name in members if name != "fields"]
    body["properties"]["error"] = {**error, "required": required, "properties": members}
    return {**body, "description": response.description}
