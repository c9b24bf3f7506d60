"""Conversion of errors to responses with the JSON `{"error": {"code", "message", "retryable", "fields"}}`.

Under the paths of a compatibility API, the JSON has that API's own format.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from django.views import defaults
from rest_framework.exceptions import APIException, ErrorDetail, NotFound, ParseError, ValidationError
from rest_framework.response import Response
from rest_framework.views import set_rollback

from tasks_app import answers, errors
from tasks_app.api.http.error_bodies import adapt_error_body, build_error_body

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
STATUS_BY_ERROR = {
    errors.InvalidImageError: 400,
    errors.InvalidParamsError: 400,
    errors.ModelNotAllowedError: 400,
    errors.NotReproducibleError: 409,
    errors.IdempotencyKeyReusedError: 422,
}
DATABASE_UNAVAILABLE = "The database is unavailable. Please try again in a moment."


def handle_api_error(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the response to an error of a view; None for an unexpected error, which becomes a 500."""
    set_rollback()
    answer = _build_response(error)
    if answer is not None:
        answer.data = adapt_error_body(context["request"].path, answer.status_code, answer.data)
    return answer


def _build_response(error: Exception) -> Response | None:
    if isinstance(error, Http404):
        error = NotFound("Not found.")
    if isinstance(error, OperationalError | InterfaceError):
        return build_unavailable_response(error)
    if isinstance(error, errors.StorageError):
        return _build_retry_response(build_error_body(error.code, str(error), retryable=error.retryable))
    if isinstance(error, errors.TaskError) and (status := STATUS_BY_ERROR.get(type(error))):
        return Response(build_error_body(error.code, str(error)), status=status)
    if isinstance(error, ValidationError):
        return Response(_build_invalid_body(error), status=error.status_code)
    if isinstance(error, ParseError):
        error = ValidationError(error.detail, code=error.default_code)
        return Response(_build_invalid_body(error), status=error.status_code)
    if isinstance(error, errors.QuotaExceededError):
        return build_quota_response(error)
    if isinstance(error, APIException):
        codes = {
            401: "unauthorized",
            403: "forbidden",
            404: "not_found",
            405: "method_not_allowed",
            415: "unsupported_media_type",
        }
        code = codes.get(error.status_code, str(error.default_code))
        challenge = getattr(error, "auth_header", None)
        headers = {"WWW-Authenticate": challenge} if challenge else {}
        return Response(build_error_body(code, str(error.detail)), status=error.status_code, headers=headers)
    return None


def build_quota_response(error: errors.QuotaExceededError) -> Response:
    """Return the 429 response to a request over a limit, with the limit's name."""
    answer = build_error_body(error.code, str(error), retryable=True, limit={"name": error.limit, "max": error.most})
    return Response(answer, status=429, headers={"Retry-After": str(math.ceil(error.retry_after))})


def build_unavailable_response(error: Exception) -> Response:
    """Return the 503 response for an unavailable database."""
    logger.warning("Database unavailable: %s", type(error).__name__)
    return _build_retry_response(build_error_body("unavailable", DATABASE_UNAVAILABLE, retryable=True))


def _build_retry_response(answer: answers.ErrorBody) -> Response:
    return Response(answer, status=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class DatabaseUnavailableMiddleware(MiddlewareMixin):
    """Middleware that responds with a plain-text 503 to page requests while the database is unavailable."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return a 503 response for a database connection error; None for any other error."""
        if not isinstance(exception, OperationalError | InterfaceError):
            return None
        logger.warning("Database unavailable: %s", type(exception).__name__)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return HttpResponse(DATABASE_UNAVAILABLE, status=503, content_type="text/plain; charset=utf-8", headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Return the 400 response to a request that Django itself rejects, such as one for a wrong host."""
    return _json_response(request, 400, build_error_body("bad_request", "The request was rejected."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the 404 response for an unknown URL: a page inside the admin, JSON everywhere else."""
    if request.path.startswith(reverse("admin:index")):
        return defaults.page_not_found(request, exception)
    return _json_response(request, 404, build_error_body("not_found", "Not found."))


def server_error(request: HttpRequest) -> JsonResponse:
    """Return the 500 response to an unexpected error; its traceback is only in the log."""
    return _json_response(
        request, 500, build_error_body("internal", "Internal server error. Please try again.", retryable=True)
    )


def _json_response(request: HttpRequest, status: int, body: answers.ErrorBody) -> JsonResponse:
    return JsonResponse(adapt_error_body(request.path, status, body), status=status)


def _build_invalid_body(error: ValidationError) -> answers.ErrorBody:
    fields: list[answers.InvalidField] = [
        {"path": path, "code": str(detail.code), "message": str(detail)}
        for path, detail in _flatten_details(error.detail, prefix="")
    ]
    only_model = {field["code"] for field in fields} == {errors.ModelNotAllowedError.code}
    code = errors.ModelNotAllowedError.code if only_model else errors.InvalidParamsError.code
    message = "; ".join(f"{field['path'] or 'body'}: {field['message']}" for field in fields)
    return build_error_body(code, message, fields=fields)


def _flatten_details(detail: Any, *, prefix: str) -> Iterator[tuple[str, ErrorDetail]]:
    """Yield every message of DRF's nested errors with its dotted path."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from _flatten_details(inner, prefix=".".join(part for part in (prefix, str(name)) if part))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _flatten_details(inner, prefix=prefix)
    else:
        yield prefix, detail
