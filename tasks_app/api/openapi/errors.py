"""How the API refuses, by status: the codes, and an example of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app.api.http.error_bodies import error_body


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The answers of one status: `always` are members of the error beside code, message and retryable."""

    name: str
    says: str
    codes: tuple[str, ...]
    example: dict[str, Any]
    headers: tuple[str, ...] = ()
    always: tuple[str, ...] = ()


_FIELD = {"path": "params.steps", "code": "invalid", "message": "Must be an integer."}
REFUSALS = {
    400: Refusal(
        name="Invalid",
        says="Values are wrong, and `fields` names all of them; or the request can't be read.",
        codes=("invalid_params", "model_not_allowed", "unreadable_picture", "bad_request"),
        example=error_body("invalid_params", "params.steps: Must be an integer.", fields=[_FIELD]),
    ),
    401: Refusal(
        name="Unauthorized",
        says="No key, or one that is unknown, expired or revoked.",
        codes=("unauthorized",),
        example=error_body("unauthorized", "This API key is unknown, expired or revoked."),
        headers=("WWW-Authenticate",),
    ),
    403: Refusal(
        name="Forbidden",
        says="The caller lacks the scope, or a session's request its CSRF token.",
        codes=("forbidden",),
        example=error_body("forbidden", "This needs a scope that the caller does not have."),
    ),
    404: Refusal(
        name="NotFound",
        says="There is no such thing, or it is somebody else's.",
        codes=("not_found",),
        example=error_body("not_found", "There is no such thing here."),
    ),
    406: Refusal(
        name="NotAcceptable",
        says="The client takes no JSON.",
        codes=("not_acceptable",),
        example=error_body("not_acceptable", "Could not satisfy the request Accept header."),
    ),
    409: Refusal(
        name="Conflict",
        says="The task was canceled; or it has not succeeded, and so can't be reproduced.",
        codes=("canceled", "not_reproducible"),
        example=error_body("canceled", "Somebody canceled the task."),
    ),
    410: Refusal(
        name="Gone",
        says="The picture was purged.",
        codes=("gone",),
        example=error_body("gone", "The picture was purged: this server keeps pictures for a limited time."),
    ),
    412: Refusal(
        name="PreconditionFailed",
        says="`If-Match` names another picture.",
        codes=("precondition_failed",),
        example=error_body("precondition_failed", "The picture is another than the request names."),
    ),
    413: Refusal(
        name="BodyTooLarge",
        says="The body has more bytes than the server takes.",
        codes=("body_too_large",),
        example=error_body("body_too_large", "The body must have at most 262144 bytes."),
    ),
    415: Refusal(
        name="UnsupportedMediaType",
        says="The body is no JSON by its `Content-Type`.",
        codes=("unsupported_media_type",),
        example=error_body("unsupported_media_type", 'Unsupported media type "text/plain" in request.'),
    ),
    422: Refusal(
        name="KeyReused",
        says="The `Idempotency-Key` was used before, for a request with another body.",
        codes=("idempotency_key_reused",),
        example=error_body(
            "idempotency_key_reused", "The Idempotency-Key was used before, for a request with another body."
        ),
    ),
    429: Refusal(
        name="LimitExceeded",
        says="The key has as much of something as it may have; `limit` says of what.",
        codes=("limit_exceeded",),
        example=error_body(
            "limit_exceeded",
            "This key may have at most 1000 queued tasks.",
            retryable=True,
            limit={"name": "queued_tasks", "max": 1000},
        ),
        headers=("Retry-After",),
        always=("limit",),
    ),
    500: Refusal(
        name="Failed",
        says="The task failed.",
        codes=("internal",),
        example=error_body("internal", "The task failed.", retryable=True),
    ),
    503: Refusal(
        name="Unavailable",
        says="The database is away, or the storage.",
        codes=("unavailable", "storage_failed"),
        example=error_body("unavailable", "The service can't reach its database; try again.", retryable=True),
        headers=("Retry-After",),
    ),
    504: Refusal(
        name="Late",
        says="The task has not ended in time, and goes on; or its deadline passed.",
        codes=("still_running", "timed_out"),
        example=error_body("still_running", "The task has not ended within 300 seconds; it goes on."),
    ),
}
