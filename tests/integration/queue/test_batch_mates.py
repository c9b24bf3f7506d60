"""Which tasks a claim takes along with the best one, to run in the same call."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client

from tasks_app.contracts import NO_MODELS, Claim, WorkerCapacity
from tasks_app.models import DiffusionModel, Status, Task, TaskAttempt
from tasks_app.queue import claim_order, lifecycle, sql
from tests.integration.queue.test_admission import at_once, make_key
from tests.integration.queue.test_claim_order import flood, nodes

MakeTask = Callable[..., Task]
ONE, OTHER = "1" * 32, "2" * 32


@pytest.fixture(autouse=True)
def _four_at_once(settings: Any) -> None:
    settings.MAX_BATCH = 4


def claim(held: WorkerCapacity = NO_MODELS) -> list[Task]:
    return lifecycle.claim_batch(worker="w", lease_seconds=30, held=held)


def ids(tasks: list[Task]) -> list[Any]:
    return [task.pk for task in tasks]


# --- How many, and which ---------------------------------------------------------------------------------------------


def test_tasks_of_one_batch_key_are_claimed_together_up_to_the_limit_the_best_first(make_task: MakeTask) -> None:
    tasks = [make_task(batch_key=ONE) for _ in range(6)]
    first, second = claim(), claim()
    assert [ids(first), ids(second)] == [ids(tasks[:4]), ids(tasks[4:])]
    assert {(task.status, task.phase, task.attempt, task.worker) for task in first} == {("running", "loading", 1, "w")}
    assert TaskAttempt.objects.count() == 6


def test_tasks_of_another_key_or_of_none_are_left(make_task: MakeTask) -> None:
    best = make_task(batch_key=ONE)
    other, alone = make_task(batch_key=OTHER), make_task()
    same = make_task(batch_key=ONE)
    more_alone = make_task()
    assert [ids(claim()) for _ in range(4)] == [[best.pk, same.pk], [other.pk], [alone.pk], [more_alone.pk]]


def test_what_is_queued_no_more_or_is_overdue_is_no_company(make_task: MakeTask) -> None:
    best = make_task(batch_key=ONE)
    canceled = make_task(batch_key=ONE)
    lifecycle.cancel_task(canceled.pk)
    make_task(batch_key=ONE, deadline=Now() - timedelta(seconds=1))
    assert ids(claim()) == [best.pk]


@pytest.mark.parametrize(("pictures", "together"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_the_limit_counts_pictures(make_task: MakeTask, pictures: int, together: int) -> None:
    for _ in range(5):
        make_task(batch_key=ONE, params={"num_images": pictures})
    assert len(claim()) == together


@pytest.mark.parametrize(
    ("of_model", "learned", "together"), [(2, {}, 2), (None, {"demo": 3}, 3), (3, {"demo": 2}, 2), (6, {"other": 1}, 6)]
)
def test_the_models_row_goes_before_the_setting_and_what_the_worker_learned_only_lowers_it(
    make_task: MakeTask, of_model: int | None, learned: dict[str, int], together: int
) -> None:
    DiffusionModel.objects.filter(model_id="demo").update(max_batch=of_model)
    for _ in range(8):
        make_task(batch_key=ONE)
    assert len(claim(WorkerCapacity(max_batch_sizes=learned))) == together


def test_company_is_taken_by_priority_then_by_turns_of_owners_then_by_age(make_task: MakeTask) -> None:
    one, other = make_key()[0].pk, make_key()[0].pk
    best = make_task(batch_key=ONE, priority=3)
    many = [make_task(batch_key=ONE, key_id=one) for _ in range(4)]
    few = make_task(batch_key=ONE, key_id=other)
    urgent = make_task(batch_key=ONE, key_id=one, priority=2)
    # The one's second turn is its own second task, the urgent one being its first.
    assert set(ids(claim())) == {best.pk, urgent.pk, few.pk, many[0].pk}


def test_a_key_takes_no_more_along_than_it_may_have_running(make_task: MakeTask) -> None:
    key, _ = make_key(max_running=2)
    for _ in range(4):
        make_task(batch_key=ONE, key_id=key.pk)
    free = make_task(batch_key=ONE)
    first = claim()
    assert sorted(task.key_id or 0 for task in first) == [0, key.pk, key.pk]
    assert free.pk in ids(first)
    assert claim() == []


def test_more_can_join_what_runs_until_the_call_is_full(make_task: MakeTask) -> None:
    first = make_task(batch_key=ONE)
    tasks = claim()
    late = [make_task(batch_key=ONE) for _ in range(4)]
    assert ids(tasks) == [first.pk]
    joined = lifecycle.claim_more(tasks, worker="w", lease_seconds=30)
    assert ids(joined) == ids(late[:3])
    assert lifecycle.claim_more([*tasks, *joined], worker="w", lease_seconds=30) == []


# --- Alone after a loss ----------------------------------------------------------------------------------------------


def test_what_a_silent_worker_had_runs_alone_from_then_on(make_task: MakeTask) -> None:
    """A task that kills its worker must not take others along until they are all out of attempts."""
    tasks = [make_task(batch_key=ONE) for _ in range(3)]
    assert len(claim()) == 3
    Task.objects.update(lease_until=Now() - timedelta(seconds=1))
    lifecycle.expire_leases()
    assert [ids(claim()) for _ in range(3)] == [[task.pk] for task in tasks]


@pytest.mark.parametrize(("alone", "together"), [(True, [1, 1]), (False, [2])])
def test_what_is_given_back_runs_alone_if_that_was_said(make_task: MakeTask, alone: bool, together: list[int]) -> None:
    for _ in range(2):
        make_task(batch_key=ONE)
    for task in claim():
        assert lifecycle.release_task(Claim(task_id=task.pk, attempt=task.attempt), alone=alone) == Status.QUEUED
    assert [len(claim()) for _ in together] == together


# --- What a POST makes of it -----------------------------------------------------------------------------------------


def posted(client: Client, *, batchable: bool | None = None, **params: Any) -> str:
    body = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house", **params}}
    more = {} if batchable is None else {"batchable": batchable}
    answer = client.post("/task", {**body, **more}, content_type="application/json")
    assert answer.status_code == 201, answer.content
    return Task.objects.get(pk=answer.json()["id"]).batch_key


def test_only_prompts_and_file_formats_may_differ_within_a_call(client: Client, db: None) -> None:
    plain = posted(client)
    assert len(plain) == 32
    assert posted(client, prompt="a hill", output_format="webp") == plain
    others: list[dict[str, Any]] = [{"steps": 9}, {"guidance_scale": 2}, {"width": 32, "height": 32}, {"num_images": 2}]
    keys = [posted(client, **params) for params in [*others, {"scheduler": "euler"}, {"negative_prompt": "rain"}]]
    assert len({plain, *keys}) == 7
    assert posted(client, negative_prompt="snow") == keys[-1]


def test_a_seed_that_was_sent_runs_alone_unless_the_task_says_otherwise(client: Client, db: None) -> None:
    assert posted(client, seed=5) == ""
    assert posted(client, batchable=False) == ""
    assert posted(client, seed=5, batchable=True) == posted(client) == posted(client, batchable=True)


@pytest.mark.parametrize("value", ["yes", 1, []])
def test_batchable_is_true_or_false(client: Client, db: None, value: object) -> None:
    body = {"task_type": "text-to-image", "params": {"prompt": "a house"}, "batchable": value}
    answer = client.post("/task", body, content_type="application/json")
    wrong = [field["path"] for field in answer.json()["error"]["fields"]]
    assert (answer.status_code, wrong) == (400, ["batchable"])


# --- Races and cost --------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_eight_racing_workers_claim_every_task_of_a_key_once_in_calls_that_are_never_too_full(
    make_task: MakeTask,
) -> None:
    capped, _ = make_key(max_running=8)
    for key_id in (None, capped.pk, make_key()[0].pk):
        flood(make_task, 40, key_id=key_id, batch_key=ONE)

    def work() -> list[list[Any]]:
        found = []
        while tasks := claim():
            assert Task.objects.filter(key_id=capped.pk, status="running").count() <= 8
            found.append(ids(tasks))
            for task in tasks:
                lifecycle.mark_failed(Claim(task_id=task.pk, attempt=task.attempt), code="internal", message="no")
        return found

    calls = [call for share in at_once(work, 8) for call in share]
    every = [task_id for call in calls for task_id in call]
    assert len(every) == len(set(every)) == 120
    assert max(len(call) for call in calls) == 4
    assert not Task.objects.filter(status="queued").exists()


def test_company_is_found_by_its_index_however_many_others_stand_in_the_lane(make_task: MakeTask) -> None:
    flood(make_task, 20_000, batch_key=OTHER)
    flood(make_task, 5, batch_key=ONE)
    Task.objects.filter(batch_key=ONE).update(created_at=F("created_at") - timedelta(minutes=1))
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Task._meta.db_table}")
        parameters = claim_order.build_parameters("w", NO_MODELS) | {"lease_seconds": 30, "taken": 1}
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql.CLAIM_BATCH, parameters)
        (plan,) = cursor.fetchone()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    scans = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == Task._meta.db_table]
    assert "task_batch" in {node.get("Index Name") for node in scans}
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans if "Scan" in node["Node Type"]) <= 40
