"""Request bodies at the door, through the ASGI application."""

import asyncio
import json
from typing import Any

import pytest
from django.conf import settings

from tasks_app.api.http.body_limit import limit_body_size

Message = dict[str, Any]


def ask(
    chunks: list[bytes], headers: list[tuple[bytes, bytes]] | None = None, *, path: str = "/task"
) -> tuple[list[Message], list[Message]]:
    """Send the chunks through the door; return what the application saw and what the client got."""
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    seen: list[Message] = []
    got: list[Message] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        seen.append({"headers": dict(scope["headers"]), **await receive()})

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        got.append(message)

    async def run() -> None:
        await limit_body_size(application)({"type": "http", "path": path, "headers": headers or []}, receive, send)

    asyncio.run(run())
    return seen, [*got, *waiting]


def test_a_chunked_body_arrives_whole_and_with_its_length() -> None:
    (seen,), _ = ask([b'{"a":', b" 1}"])
    assert seen["body"] == b'{"a": 1}'
    assert seen["headers"][b"content-length"] == b"8"


@pytest.mark.parametrize("length", [b"3", b"999999999"])
def test_a_wrong_length_does_not_count(length: bytes) -> None:
    (seen,), _ = ask([b"12345"], [(b"content-length", length), (b"accept", b"*/*")])
    assert seen["headers"] == {b"content-length": b"5", b"accept": b"*/*"}


def test_a_body_over_the_limit_is_refused_before_the_rest_is_read() -> None:
    chunk = b"x" * (settings.MAX_BODY_BYTES // 2 + 1)
    seen, got = ask([chunk] * 10)
    assert seen == []
    assert got[0]["status"] == 413
    assert json.loads(got[1]["body"])["error"]["code"] == "body_too_large"
    assert len(got) - 2 >= 8


@pytest.mark.parametrize("path", ["/task/from-image", "/task/from-image/"])
def test_only_an_uploaded_picture_may_be_large(path: str, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 3 * settings.MAX_BODY_BYTES
    chunk = b"x" * settings.MAX_BODY_BYTES
    (seen,), _ = ask([chunk] * 3, path=path)
    assert len(seen["body"]) == settings.MAX_UPLOAD_BYTES
    for elsewhere, chunks in ((path, 4), ("/task", 2), (f"{path}/x", 2)):
        refused, got = ask([chunk] * chunks, path=elsewhere)
        assert (refused, got[0]["status"]) == ([], 413)


def test_a_client_that_leaves_amid_its_body_is_not_taken_for_done() -> None:
    seen: list[Message] = []
    waiting: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def application(scope: Message, receive: Any, send: Any) -> None:
        seen.append(await receive())

    async def receive() -> Message:
        return waiting.pop(0)

    async def run() -> None:
        scope = {"type": "http", "path": "/task", "headers": []}
        await limit_body_size(application)(scope, receive, receive)  # type: ignore[arg-type]

    asyncio.run(run())
    assert seen == [{"type": "http.disconnect"}]
