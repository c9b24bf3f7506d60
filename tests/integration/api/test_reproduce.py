"""`POST /task/{id}/reproduce`: who may, what is refused, and what the new task tells."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks_app.access import api_keys
from tasks_app.models import DiffusionModel, Scope, Task
from tasks_app.worker import supervisor
from tests.support.openapi import check_response

MakeTask = Callable[..., Task]


@pytest.fixture
def done(make_task: MakeTask) -> MakeTask:
    """Return a factory of tasks that a worker has run."""

    def make(**fields: Any) -> Task:
        task = make_task(**fields)
        assert supervisor.run_once()
        return task

    return make


def key(*scopes: Scope, **limits: Any) -> tuple[int, dict[str, str]]:
    """Make a key, and return its id and its header."""
    user = User.objects.create_user(f"owner-{User.objects.count()}")
    row, token = api_keys.create_api_key(user=user, name="key", scopes=list(scopes), **limits)
    return row.pk, {"Authorization": f"Bearer {token}"}


def reproduce(client: Client, task: Task, **headers: str) -> Any:
    answer = client.post(f"/task/{task.pk}/reproduce", headers=headers)
    check_response("post", "/task/{task_id}/reproduce", answer)
    return answer


def test_the_new_task_tells_the_verdict_when_it_has_ended(client: Client, done: MakeTask) -> None:
    first = done()
    answer = reproduce(client, first)
    new = answer.json()
    assert (answer.status_code, answer["Location"]) == (201, f"/task/{new['id']}")
    assert new["reproduction"] == {"of": str(first.pk), "verdict": None, "images": [], "differences": {}}
    assert supervisor.run_once()
    told = client.get(f"/task/{new['id']}")
    check_response("get", "/task/{task_id}", told)
    image = {"index": 0, "verdict": "identical", "psnr": None, "identical_file": True}
    of = {"of": str(first.pk), "verdict": "identical", "images": [image], "differences": {}}
    assert told.json()["reproduction"] == of
    assert told.json()["provenance"]["device"] == "fake"
    assert client.get(f"/task/{first.pk}").json()["reproduction"] is None


def test_a_task_that_has_not_succeeded_is_a_conflict(client: Client, make_task: MakeTask) -> None:
    answer = reproduce(client, make_task())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_reproducible")
    assert Task.objects.count() == 1


def test_a_model_that_is_no_longer_allowed_is_refused(client: Client, done: MakeTask) -> None:
    first = done()
    DiffusionModel.objects.filter(model_id="demo").update(allowed=False)
    answer = reproduce(client, first)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_allowed")


@pytest.mark.parametrize(
    ("scopes", "own", "status"),
    [
        ([Scope.SUBMIT], True, 201),
        ([Scope.READ], True, 403),
        ([Scope.READ, Scope.SUBMIT], False, 404),
        ([Scope.READ_ANY, Scope.SUBMIT], False, 201),
    ],
)
def test_whoever_may_submit_reproduces_what_is_theirs_or_open_to_them(
    client: Client, done: MakeTask, scopes: list[Scope], own: bool, status: int
) -> None:
    key_id, header = key(*scopes)
    first = done(key_id=key_id if own else key(Scope.SUBMIT)[0])
    assert reproduce(client, first, **header).status_code == status
    new = Task.objects.filter(reproduces=first).values_list("key_id", flat=True)
    assert list(new) == ([key_id] if status == 201 else [])


def test_a_keys_cap_of_queued_tasks_holds(client: Client, done: MakeTask) -> None:
    key_id, header = key(Scope.SUBMIT, max_queued=1)
    first = done(key_id=key_id)
    assert [reproduce(client, first, **header).status_code for _ in range(2)] == [201, 429]


def test_the_same_name_makes_one_task_and_none_for_another(client: Client, done: MakeTask) -> None:
    first, other = done(), done()
    name = {"Idempotency-Key": "one"}
    made, repeated, reused = (reproduce(client, task, **name) for task in (first, first, other))
    assert [answer.status_code for answer in (made, repeated, reused)] == [201, 200, 422]
    assert (repeated.json()["id"], repeated["Idempotency-Replayed"]) == (made.json()["id"], "true")
