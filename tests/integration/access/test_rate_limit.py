"""Rates: each request counts once, by the minute, and nobody is held up when Redis is away."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import uuid4

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client

from tasks_app.access import api_keys, rate_limit
from tasks_app.events import progress
from tasks_app.models import Scope

Answer = TypeVar("Answer")


def within_a_minute(do: Callable[[], Answer]) -> Answer:
    """Do it again when the clock went into the next minute meanwhile."""
    while True:
        window = time.time() // rate_limit.WINDOW_SECONDS
        answer = do()
        if time.time() // rate_limit.WINDOW_SECONDS == window:
            return answer


def test_of_many_at_once_exactly_as_many_pass_as_may() -> None:
    def spend() -> list[float | None]:
        name = str(uuid4())
        with ThreadPoolExecutor(20) as pool:
            return list(pool.map(lambda _: rate_limit.consume(name, 10), range(40)))

    left = within_a_minute(spend)
    assert left.count(None) == 10
    assert all(0 < seconds <= 60 for seconds in left if seconds is not None)


def test_a_key_over_its_rate_is_told_which_limit_and_when_to_come_again(db: None) -> None:
    def ask() -> list[tuple[int, dict[str, object], str]]:
        user, _ = User.objects.get_or_create(username="ada")
        _, token = api_keys.create_api_key(user=user, name=str(uuid4()), scopes=[Scope.READ], rate_per_minute=3)
        client = Client(headers={"authorization": f"Bearer {token}"})
        answers = [client.get("/task") for _ in range(5)]
        return [(answer.status_code, answer.json(), answer.get("Retry-After", "")) for answer in answers]

    answers = within_a_minute(ask)
    assert Counter(status for status, _, _ in answers) == {200: 3, 429: 2}
    _, body, seconds = answers[-1]
    error = body["error"]
    assert isinstance(error, dict)
    assert error["code"] == "limit_exceeded"
    assert error["limit"] == {"name": "requests_per_minute", "max": 3}
    assert 1 <= int(seconds) <= 60


def test_while_redis_is_away_nobody_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = redis.Redis.from_url("unix:///nonexistent/redis.sock")
    monkeypatch.setattr(progress, "client", nowhere)
    name = str(uuid4())
    assert [rate_limit.consume(name, 0) for _ in range(3)] == [None, None, None]
    assert not progress.is_redis_available()
