"""What is tried again, how long, and what is not."""

import pytest
from diffusers_handler_client import ApiError, Client, Unreachable
from diffusers_handler_client.patience import MAX_DELAY, RetryPolicy

from tests.e2e.client.scripted import LOST, TASK, scripted, told
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
