"""What no two requests can race for: the task of an Idempotency-Key, a place in the queue, one among the running."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone

from tasks_app.access import api_keys
from tasks_app.contracts import Claim
from tasks_app.models import ApiKey, IdempotencyKey, Scope, Task
from tasks_app.queue import admission, lifecycle
from tests.support.claims import claim_one

BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house"}}
AT_ONCE = 50
Answer = TypeVar("Answer")


def make_key(**limits: Any) -> tuple[ApiKey, Client]:
    user, _ = User.objects.get_or_create(username="ada")
    name = f"key {ApiKey.objects.count()}"
    key, token = api_keys.create_api_key(user=user, name=name, scopes=[Scope.READ, Scope.SUBMIT], **limits)
    return key, Client(headers={"authorization": f"Bearer {token}"})


def post(client: Client, body: Any = None, **headers: str) -> Any:
    return client.post("/task", BODY if body is None else body, content_type="application/json", headers=headers)


def at_once(do: Callable[[], Answer], times: int = AT_ONCE) -> list[Answer]:
    """Do the same from as many threads, all at the same moment."""
    gate = threading.Barrier(times)

    def one(_: int) -> Answer:
        gate.wait()
        try:
            return do()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


@pytest.mark.django_db(transaction=True)
def test_many_posts_at_once_with_one_name_are_one_task() -> None:
    _, client = make_key()
    answers = at_once(lambda: post(client, idempotency_key="once"))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: AT_ONCE - 1}
    assert len({answer.json()["id"] for answer in answers}) == Task.objects.count() == 1
    assert {answer.get("Idempotency-Replayed") for answer in answers if answer.status_code == 200} == {"true"}


@pytest.mark.django_db(transaction=True)
def test_many_posts_at_once_over_a_cap_fill_it_and_no_more() -> None:
    _, client = make_key(max_queued=10)
    answers = at_once(lambda: post(client))
    assert Counter(answer.status_code for answer in answers) == {201: 10, 429: AT_ONCE - 10}
    assert Task.objects.count() == 10


@pytest.mark.django_db(transaction=True)
def test_many_claims_at_once_run_no_more_of_a_key_than_it_may(make_task: Callable[..., Task]) -> None:
    capped, _ = make_key(max_running=3)
    other, _ = make_key()
    for _ in range(8):
        make_task(key_id=capped.pk)
        make_task(key_id=other.pk)
    claimed = at_once(lambda: claim_one(worker="w:1", lease_seconds=30), 12)
    found = Counter(task.key_id for task in claimed if task is not None)
    assert found == {capped.pk: 3, other.pk: 8}
    assert Counter(Task.objects.filter(status="running").values_list("key_id", flat=True)) == found


def test_a_full_queue_says_which_limit_and_when_to_come_again(db: None) -> None:
    _, client = make_key(max_queued=1)
    assert post(client).status_code == 201
    answer = post(client)
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) >= 1
    error = answer.json()["error"]
    assert (error["code"], error["retryable"]) == ("limit_exceeded", True)
    assert error["limit"] == {"name": "queued_tasks", "max": 1}
    claim_one(worker="w:1", lease_seconds=30)
    assert post(client).status_code == 201


def test_one_keys_queue_is_not_anothers(db: None) -> None:
    _, first = make_key(max_queued=1)
    _, second = make_key(max_queued=1)
    assert [post(client).status_code for client in (first, first, second)] == [201, 429, 201]


def test_a_running_cap_of_the_settings_holds_keys_and_nobody_else(
    db: None, make_task: Callable[..., Task], settings: Any
) -> None:
    settings.MAX_RUNNING_PER_KEY = 1
    key, _ = make_key()
    tasks = [make_task(key_id=key.pk), make_task(key_id=key.pk), make_task(), make_task()]
    claimed = [claim_one(worker="w:1", lease_seconds=30) for _ in tasks]
    assert [task and task.pk for task in claimed] == [tasks[0].pk, tasks[2].pk, tasks[3].pk, None]
    assert lifecycle.find_claimable(worker="w:1") is None
    claim = Claim(task_id=tasks[0].pk, attempt=1)
    assert lifecycle.mark_failed(claim, code="internal", message="no")
    assert lifecycle.find_claimable(worker="w:1") == tasks[1].pk


def test_the_same_request_again_is_the_same_task_whatever_its_spelling(db: None) -> None:
    _, client = make_key(max_queued=1)
    first = post(client, idempotency_key="a")
    again = post(client, dict(reversed(BODY.items())), idempotency_key="a")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert "Idempotency-Replayed" not in first
    assert again["Location"] == first["Location"]


def test_another_request_under_the_same_name_is_refused(db: None) -> None:
    _, client = make_key()
    post(client, idempotency_key="a")
    answer = post(client, {**BODY, "priority": 1}, idempotency_key="a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert Task.objects.count() == 1


def test_a_name_is_its_keys_own(db: None) -> None:
    clients = [make_key()[1], make_key()[1], Client()]
    assert [post(client, idempotency_key="a").status_code for client in clients] == [201, 201, 201]
    assert [post(client, idempotency_key="a").status_code for client in clients] == [200, 200, 200]


def test_a_refused_request_leaves_its_name_free(db: None) -> None:
    _, client = make_key(max_queued=0)
    assert post(client, {**BODY, "priority": 99}, idempotency_key="a").status_code == 400
    assert post(client, idempotency_key="a").status_code == 429
    ApiKey.objects.update(max_queued=None)
    assert post(client, idempotency_key="a").status_code == 201


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 256, "é"])
def test_what_is_no_name_is_refused_by_its_header(db: None, name: str) -> None:
    answer = post(Client(), idempotency_key=name)
    assert answer.status_code == 400
    assert [field["path"] for field in answer.json()["error"]["fields"]] == ["Idempotency-Key"]
    assert not Task.objects.exists()


def test_names_are_forgotten_after_a_day(db: None) -> None:
    answer = post(Client(), idempotency_key="a")
    admission.purge_expired_keys()
    assert IdempotencyKey.objects.count() == 1
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    admission.purge_expired_keys()
    assert post(Client(), idempotency_key="a").json()["id"] != answer.json()["id"]


def test_a_deleted_task_frees_its_name(db: None) -> None:
    first = post(Client(), idempotency_key="a").json()["id"]
    lifecycle.cancel_task(first)
    assert lifecycle.delete_tasks(first)
    assert post(Client(), idempotency_key="a").json()["id"] != first
