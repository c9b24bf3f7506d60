"""The id of a request, and its line."""

import asyncio
import logging
from typing import Any

import pytest
from structlog.contextvars import get_contextvars

from tasks_app.api.http.request_id import assign_request_id


class Application:
    """An ASGI application that answers in two pieces, and remembers the context that it ran in."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.contexts: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.contexts.append(get_contextvars())
        if self.error:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
        await asyncio.to_thread(lambda: self.contexts.append(get_contextvars()))
        await send({"type": "http.response.body", "body": b"ok"})


def ask(application: Any, *headers: tuple[bytes, bytes], path: str = "/task") -> dict[bytes, bytes]:
    """Ask it once and return the headers of its answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"token=x"}
        await assign_request_id(application)({**scope, "headers": list(headers)}, None, send)  # type: ignore[arg-type]
        assert get_contextvars() == {}

    asyncio.run(run())
    return dict(sent[0]["headers"])


def test_a_sane_id_is_taken_and_bound_around_the_whole_answer() -> None:
    application = Application()
    assert ask(application, (b"x-request-id", b"a.b_C-9")) == {b"x-own": b"1", b"x-request-id": b"a.b_C-9"}
    assert application.contexts == [{"request_id": "a.b_C-9"}] * 2


@pytest.mark.parametrize(
    "given", [b"", b"a b", b"x" * 65, b"\xff", b'"}', b"a\nb"], ids=["empty", "space", "long", "bytes", "json", "line"]
)
def test_another_id_is_replaced_by_one_of_ours(given: bytes) -> None:
    made = [ask(Application(), (b"x-request-id", given))[b"x-request-id"] for _ in range(2)]
    assert given not in made
    assert made[0] != made[1]
    assert all(len(one) == 32 for one in made)


def test_a_request_has_a_line_without_its_query(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ask(Application())
        ask(Application(), path="/healthz")
    (record,) = caplog.records
    assert record.getMessage() == "GET /task: 200"
    assert (record.method, record.path, record.status) == ("GET", "/task", 200)  # type: ignore[attr-defined]
    assert record.seconds >= 0  # type: ignore[attr-defined]


def test_a_request_that_fails_has_one_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="wanted"):
        ask(Application(ValueError("as wanted")))
    assert [record.getMessage() for record in caplog.records] == ["GET /task: client disconnected"]
