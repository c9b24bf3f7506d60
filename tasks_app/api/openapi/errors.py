"""Error responses of the API by status: their codes, and an example of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app.api.http.error_bodies import build_error_body


@dataclass(frozen=True, kw_only=True)
class ErrorResponseSpec:
    """Error response of one status; the error has `required_members` besides code, message and retryable."""

    name: str
    description: str
    codes: tuple[str, ...]
    example: dict[str, Any]
    headers: tuple[str, ...] = ()
    required_members: tuple[str, ...] = ()


_FIELD = {"path": "params.steps", "code": "invalid", "message": "Must be an integer."}
ERROR_RESPONSES = {
    400: ErrorResponseSpec(
        name="Invalid",
        description="Values are wrong, and `fields` names all of them; or the request can't be read.",
        codes=("invalid_params", "model_not_allowed", "invalid_image", "bad_request"),
        example=build_error_body("invalid_params", "params.steps: Must be an integer.", fields=[_FIELD]),
    ),
    401: ErrorResponseSpec(
        name="Unauthorized",
        description="No key, or one that is unknown, expired or revoked.",
        codes=("unauthorized",),
        example=build_error_body("unauthorized", "This API key is unknown, expired or revoked."),
        headers=("WWW-Authenticate",),
    ),
    403: ErrorResponseSpec(
        name="Forbidden",
        description="The caller lacks the scope, or a session's request its CSRF token.",
        codes=("forbidden",),
        example=build_error_body("forbidden", "This needs a scope that the caller does not have."),
    ),
    404: ErrorResponseSpec(
        name="NotFound",
        description="There is no such thing, or it is somebody else's.",
        codes=("not_found",),
        example=build_error_body("not_found", "There is no such thing here."),
    ),
    406: ErrorResponseSpec(
        name="NotAcceptable",
        description="The client takes no JSON.",
        codes=("not_acceptable",),
        example=build_error_body("not_acceptable", "Could not satisfy the request Accept header."),
    ),
    409: ErrorResponseSpec(
        name="Conflict",
        description="The task was canceled; or it has not succeeded, and so can't be reproduced.",
        codes=("canceled", "not_reproducible"),
        example=build_error_body("canceled", "Somebody canceled the task."),
    ),
    410: ErrorResponseSpec(
        name="Gone",
        description="The picture was purged.",
        codes=("gone",),
        example=build_error_body("gone", "The picture was purged: this server keeps pictures for a limited time."),
    ),
    412: ErrorResponseSpec(
        name="PreconditionFailed",
        description="`If-Match` names another picture.",
        codes=("precondition_failed",),
        example=build_error_body("precondition_failed", "The picture is another than the request names."),
    ),
    413: ErrorResponseSpec(
        name="BodyTooLarge",
        description="The body has more bytes than the server takes.",
        codes=("body_too_large",),
        example=build_error_body("body_too_large", "The body must have at most 262144 bytes."),
    ),
    415: ErrorResponseSpec(
        name="UnsupportedMediaType",
        description="The body is no JSON by its `Content-Type`.",
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
        description="The key has as much of something as it may have; `limit` says of what.",
        codes=("limit_exceeded",),
        example=build_error_body(
            "limit_exceeded",
            "This key may have at most 1000 queued tasks.",
            retryable=True,
            limit={"name": "queued_tasks", "max": 1000},
        ),
        headers=("Retry-After",),
        required_members=("limit",),
    ),
    500: ErrorResponseSpec(
        name="Failed",
        description="The task failed.",
        codes=("internal",),
        example=build_error_body("internal", "The task failed.", retryable=True),
    ),
    503: ErrorResponseSpec(
        name="Unavailable",
        description="The database is away, or the storage.",
        codes=("unavailable", "storage_failed"),
        example=build_error_body("unavailable", "The service can't reach its database; try again.", retryable=True),
        headers=("Retry-After",),
    ),
    504: ErrorResponseSpec(
        name="Late",
        description="The task has not ended in time, and goes on; or its deadline passed.",
        codes=("wait_timeout", "timed_out"),
        example=build_error_body("wait_timeout", "The task has not ended within 300 seconds; it goes on."),
    ),
}
