"""ASGI middleware that adds an id to each request's response and log lines, and logs the request when it ends."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

from structlog.contextvars import bound_contextvars

from tasks_app.api.http.body_limit import ASGIApplication, ASGIMessage, ASGIScope, Receive, Send

logger = logging.getLogger(__name__)

HEADER = b"x-request-id"
# Ids accepted from clients; any other is replaced by a generated one.
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Requested every few seconds, so logged at DEBUG only.
_PROBE_PATHS = {"/healthz", "/readyz", "/metrics"}
_MAX_PATH_LENGTH = 200


def assign_request_id(application: ASGIApplication) -> ASGIApplication:
    """Bind each request's id around the whole application, so that streams and rejected bodies have it too."""

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
    """Log a request without its query, which may contain secrets.

    `status` is None if the client disconnected before the response.
    """
    path = scope["raw_path"].decode("latin-1")[:_MAX_PATH_LENGTH]
    level = logging.DEBUG if scope["path"] in _PROBE_PATHS else logging.INFO
    fields = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 3)}
    logger.log(level, "%s %s: %s", scope["method"], path, status or "client disconnected", extra=fields)
