"""Every request has an id, in its answer and in its log lines, and a line of its own when it has ended."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

from structlog.contextvars import bound_contextvars

from tasks_app.api.http.body_limit import ASGIApplication, ASGIMessage, ASGIScope, Receive, Send

logger = logging.getLogger(__name__)

HEADER = b"x-request-id"
# What is taken from a client; whatever else it sends gets an id of ours.
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Asked every few seconds, and worth no line.
_PROBE_PATHS = {"/healthz", "/readyz", "/metrics"}
_MAX_PATH_LENGTH = 200


def assign_request_id(application: ASGIApplication) -> ASGIApplication:
    """Bind each request's id around the whole application, so that streams and refused bodies have it too."""

    async def wrapped(scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        request_id = _get_client_id(scope) or uuid4().hex
        started, status = time.monotonic(), None

        async def identify(message: ASGIMessage) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (HEADER, request_id.encode())]}
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await application(scope, receive, identify)
            finally:
                _log_request(scope, status, time.monotonic() - started)

    return wrapped


def _get_client_id(scope: ASGIScope) -> str | None:
    given = dict(scope["headers"]).get(HEADER, b"").decode("latin-1")
    return given if _VALID_ID.fullmatch(given) else None


def _log_request(scope: ASGIScope, status: int | None, seconds: float) -> None:
    """Write the line, without the query, which may carry secrets; no status: the client went away before its answer."""
    path = scope["raw_path"].decode("latin-1")[:_MAX_PATH_LENGTH]
    level = logging.DEBUG if scope["path"] in _PROBE_PATHS else logging.INFO
    fields = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 3)}
    logger.log(level, "%s %s: %s", scope["method"], path, status or "gone", extra=fields)
