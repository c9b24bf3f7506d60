"""ASGI middleware that limits the size of request bodies and reads them whole before Django sees them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from tasks_app.api.http.error_bodies import adapt_error_body, build_error_body

ASGIScope = dict[str, Any]
ASGIMessage = Mapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
ASGIApplication = Callable[[ASGIScope, Receive, Send], Awaitable[None]]


UPLOAD_PATHS = (
    "/upload",
    "/upload/",
    "/task/from-image",
    "/task/from-image/",
    "/sdapi/v1/png-info",
    "/sdapi/v1/png-info/",
)


def get_body_limit(path: str) -> int:
    """Return the maximum size of a body in bytes; only uploaded images may be large."""
    return settings.MAX_UPLOAD_BYTES if path in UPLOAD_PATHS else settings.MAX_BODY_BYTES


def build_too_large_message(most: int) -> str:
    """Return the error message for a body over the limit."""
    return f"The body must be at most {most} bytes."


def limit_body_size(application: ASGIApplication) -> ASGIApplication:
    """Respond 413 to bodies over the path's limit, and pass all others on in one message.

    Without this, Django spools a body of any size to disk, and DRF treats one without Content-Length (chunked) as
    empty.
    """

    async def wrapped(scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        most = get_body_limit(scope["path"])
        message = await _read_body(receive, most)
        if message is None:
            return await _send_too_large(scope["path"], send, most)
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(len(message.get("body", b""))).encode()))
        return await application({**scope, "headers": headers}, _replay_message(message, receive), send)

    return wrapped


async def _read_body(receive: Receive, limit: int) -> ASGIMessage | None:
    """Return the body as one message, or the disconnect message if the client left; None if the body is too large."""
    content = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return message
        content += message.get("body", b"")
        if len(content) > limit:
            return None
        more = message.get("more_body", False)
    return {"type": "http.request", "body": bytes(content), "more_body": False}


def _replay_message(message: ASGIMessage, receive: Receive) -> Receive:
    waiting = [message]

    async def replay() -> ASGIMessage:
        return waiting.pop() if waiting else await receive()

    return replay


async def _send_too_large(path: str, send: Send, most: int) -> None:
    content = json.dumps(
        adapt_error_body(path, 413, build_error_body("body_too_large", build_too_large_message(most)))
    ).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": content})
