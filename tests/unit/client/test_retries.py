"""What is tried again, how long, and what is not."""

import asyncio
import json
from typing import Any

import pytest
from diffusers_handler_client import ApiError, AsyncClient, Client, Event, Unreachable, patience
from diffusers_handler_client.patience import MAX_DELAY, RetryPolicy

from tests.e2e.client.scripted import LOST, TASK, Answer, Asked, scripted, told
from tests.support.stack import free_port

AWAY = told({"error": {"code": "unavailable", "message": "Away.", "retryable": True}}, 503, Retry_After="0")
MANY = told({"error": {"code": "rate_limited", "message": "Too many.", "retryable": True}}, 429, Retry_After="7")


def test_a_submission_is_sent_again_under_the_same_key() -> None:
    with scripted(LOST, AWAY, told(TASK, 201)) as (url, asked), Client(url) as client:
        assert client.submit("a house").id == "x"
    keys = {one.headers["Idempotency-Key"] for one in asked}
    assert (len(asked), len(keys)) == (3, 1)


def test_each_submission_has_a_key_of_its_own_unless_one_is_given() -> None:
    with scripted(told(TASK, 201)) as (url, asked), Client(url) as client:
        for key in (None, None, "mine"):
            client.submit("a house", idempotency_key=key)
    first, second, third = (one.headers["Idempotency-Key"] for one in asked)
    assert first != second
    assert third == "mine"


def test_a_refusal_is_not_repeated_and_says_when_it_may_be() -> None:
    with scripted(MANY) as (url, asked), Client(url) as client:
        with pytest.raises(ApiError) as refused:
            client.submit("a house")
        assert (refused.value.status, refused.value.code, refused.value.retry_after) == (429, "rate_limited", 7)
    assert len(asked) == 1


def test_retries_are_bounded() -> None:
    with scripted(AWAY) as (url, asked), Client(url, retries=2) as client:
        with pytest.raises(ApiError) as away:
            client.get("x")
        assert (away.value.status, away.value.code) == (503, "unavailable")
    assert len(asked) == 3


def test_where_nobody_listens_the_address_is_told() -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", retries=0) as client, pytest.raises(Unreachable, match=str(port)):
        client.get("x")


def test_pauses_double_up_to_a_bound_and_are_as_long_as_asked_for() -> None:
    attempts = RetryPolicy(retries=8)
    pauses = [attempts.delay_after(Unreachable("gone")) for _ in range(8)]
    for pause, full in zip(pauses, [0.25, 0.5, 1, 2, 4, 8, 8, 8], strict=True):
        assert full / 2 <= pause <= full
    asked = ApiError("Away.", code="unavailable", status=503, retry_after=5)
    assert RetryPolicy(retries=1).delay_after(asked) == 5
    too_long = ApiError("Away.", code="unavailable", status=503, retry_after=MAX_DELAY + 1)
    with pytest.raises(ApiError, match="Away"):
        RetryPolicy(retries=1).delay_after(too_long)


RUNNING = {**TASK, "status": "running", "queue_position": None}
SUCCEEDED = {**RUNNING, "status": "succeeded"}
NO_STREAM = Answer(status=502, headers={"Content-Type": "text/html"}, body=b"Bad gateway")


def stream_of(*events: tuple[str, str, dict[str, Any]]) -> Answer:
    """Return a stream that is closed after these events."""
    text = "".join(
        f"id: {entry}\nevent: {name}\ndata: {json.dumps({'task': 'x', **data})}\n\n" for entry, name, data in events
    )
    return Answer(headers={"Content-Type": "text/event-stream"}, body=text.encode())


def follow(url: str, *, asynchronous: bool, **options: Any) -> list[Event]:
    """Return all events of a stream by either client."""

    async def run() -> list[Event]:
        async with AsyncClient(url) as client:
            return [event async for event in client.stream("x", **options)]

    if asynchronous:
        return asyncio.run(run())
    with Client(url) as client:
        return list(client.stream("x", **options))


def paths(asked: list[Asked]) -> list[str]:
    return [one.path.removeprefix("/task/x") for one in asked]


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STREAM_POLL_SECONDS", 0.01)
    monkeypatch.setattr(patience, "INITIAL_DELAY", 0.01)


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_without_a_stream_the_task_is_polled_and_its_changes_are_events(asynchronous: bool) -> None:
    answers = [NO_STREAM, told(TASK), told(RUNNING), told(RUNNING), told(SUCCEEDED)]
    with scripted(*answers) as (url, asked):
        events = follow(url, asynchronous=asynchronous)
    assert paths(asked) == ["/events", "", "", "", ""]
    assert [event.name for event in events] == ["status", "status", "progress", "status", "done"]
    assert [event.data["status"] for event in events if event.name == "status"] == ["queued", "running", "succeeded"]
    assert events[2].progress is not None
    assert events[-1].task is not None
    assert events[-1].task.succeeded


@pytest.mark.usefixtures("_hurry")
def test_after_an_outage_of_the_whole_service_the_stream_is_tried_again() -> None:
    end = stream_of(("7-0", "done", SUCCEEDED))
    with scripted(NO_STREAM, NO_STREAM, end) as (url, asked):
        assert [event.name for event in follow(url, asynchronous=False)] == ["done"]
    assert paths(asked) == ["/events", "", "/events"]


@pytest.mark.usefixtures("_hurry")
def test_a_stream_that_worked_is_opened_again_after_its_last_event() -> None:
    first = stream_of(("5-0", "status", {"status": "running"}))
    with scripted(first, stream_of(), stream_of(("7-0", "done", SUCCEEDED))) as (url, asked):
        names = [event.name for event in follow(url, asynchronous=False, retries=2)]
    assert names == ["status", "done"]
    assert paths(asked) == ["/events", "/events", "/events"]
    assert [one.headers.get("Last-Event-ID") for one in asked] == [None, "5-0", "5-0"]


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("retries", [0, 2])
def test_a_stream_can_have_retries_of_its_own(retries: int) -> None:
    with scripted(AWAY) as (url, asked), pytest.raises(ApiError) as away:
        follow(url, asynchronous=False, retries=retries)
    assert away.value.code == "unavailable"
    # Each try is the stream and, because the service may answer without it, the task.
    assert paths(asked) == ["/events", ""] * (retries + 1)


def test_an_empty_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSERS_HANDLER_KEY", "secret")
    with scripted(told(TASK)) as (url, asked), Client(url, "") as client:
        client.get("x")
    assert "Authorization" not in asked[0].headers
