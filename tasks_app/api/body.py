"""Request bodies at the door: bounded before anything is read to disk, whole before Django sees them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from tasks_app.api.shapes import error_body, shaped

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def too_large() -> str:
    """Return what a client with too large a body is told."""
    return f"The body must have at most {settings.MAX_BODY_BYTES} bytes."


def bounded(application: Application) -> Application:
    """Answer 413 to bodies over MAX_BODY_BYTES, and hand on all others whole.

    Django spools a body of any size to disk first, and DRF takes one without Content-Length (chunked) for empty.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        message = await _read(receive, settings.MAX_BODY_BYTES)
        if message is None:
            return await _refuse(scope["path"], send)
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(len(message.get("body", b""))).encode()))
        return await application({**scope, "headers": headers}, _replay(message, receive), send)

    return wrapped


async def _read(receive: Receive, limit: int) -> Message | None:
    """Return the body as one message, or that the client went away before its end; None for too large a body."""
    content = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return message
        content += message.get("body", b"")
        if len(content) > limit:
            return None
        more = message.get("more_body", False)
    return {"type": "http.request", "body": content, "more_body": False}


def _replay(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(path: str, send: Send) -> None:
    content = json.dumps(shaped(path, 413, error_body("body_too_large", too_large()))).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": content})
