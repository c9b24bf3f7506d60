"""The order of claims: priority, turns of owners, what the worker holds, age; and that none of it costs a scan."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from django.db.models.functions import Now

from tasks_app.contracts import NO_MODELS, Claim, WorkerCapacity
from tasks_app.engine.types import WarmModel
from tasks_app.models import ApiKey, Task
from tasks_app.queue import claim_order, lifecycle, sql
from tests.integration.queue.test_admission import at_once, make_key
from tests.support.claims import claim_one

MakeTask = Callable[..., Task]


def claim(held: WorkerCapacity = NO_MODELS) -> Task | None:
    return claim_one(worker="w", lease_seconds=30, held=held)


def claimed(held: WorkerCapacity = NO_MODELS) -> Task:
    task = claim(held)
    assert task is not None
    return task


def end(task: Task) -> None:
    assert lifecycle.mark_failed(Claim(task_id=task.pk, attempt=task.attempt), code="internal", message="no")


def holding(*model_ids: str, seconds: float = 0, revision: str = "r") -> WorkerCapacity:
    models = frozenset(WarmModel(model_id=model_id, revision=revision) for model_id in model_ids)
    return WorkerCapacity(models=models, unchanged_seconds=seconds)


def flood(make_task: MakeTask, number: int, **fields: Any) -> None:
    """Queue so many tasks like one; PostgreSQL copies it, which takes no time."""
    columns = ", ".join(field.column for field in Task._meta.concrete_fields if field.column and not field.primary_key)
    table, task = Task._meta.db_table, make_task(**fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (id, {columns}) SELECT gen_random_uuid(), {columns} FROM {table}, "
            "generate_series(2, %s) WHERE id = %s",
            [number, task.pk],
        )


def age(**by: float) -> None:
    Task.objects.update(created_at=F("created_at") - timedelta(**by))


# --- Turns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [True, False], ids=["one worker", "many workers"])
def test_a_thousand_tasks_of_one_owner_hold_up_no_task_of_another(make_task: MakeTask, ending: bool) -> None:
    many, _ = make_key()
    few, _ = make_key()
    flood(make_task, 1000, key_id=many.pk)
    flood(make_task, 1000)
    age(minutes=10)
    single = make_task(key_id=few.pk)
    first = []
    for _ in range(4):
        first.append(claimed())
        if ending:
            end(first[-1])
    # Owners that nobody has served yet come first, by age; then each has its turn again.
    assert {task.key_id for task in first[:3]} == {many.pk, few.pk, None}
    assert single.pk in {task.pk for task in first[:3]}
    assert first[3].key_id == first[0].key_id


def test_a_single_task_beside_one_flood_is_claimed_within_two(make_task: MakeTask) -> None:
    many, _ = make_key()
    few, _ = make_key()
    flood(make_task, 1000, key_id=many.pk)
    end(claimed())
    single = make_task(key_id=few.pk)
    assert single.pk in {claimed().pk, claimed().pk}


def test_whoever_has_the_fewest_running_is_first_though_served_later_and_with_a_model_that_is_not_held(
    make_task: MakeTask,
) -> None:
    key, _ = make_key()
    flood(make_task, 3)
    assert claimed().key_id is None
    flood(make_task, 3, key_id=key.pk, model_id="other")
    end(claimed())
    # The key was served last, but has none running.
    assert [claimed(held).key_id for held in (holding("demo"), NO_MODELS)] == [key.pk, None]


def test_turns_go_on_over_tasks_that_have_ended(make_task: MakeTask) -> None:
    keys = [make_key()[0].pk for _ in range(3)]
    for key_id in keys:
        flood(make_task, 4, key_id=key_id)
    order = []
    for _ in range(9):
        task = claimed()
        order.append(task.key_id)
        end(task)
    assert order == keys * 3


def test_priority_goes_before_turns_and_before_what_is_held(make_task: MakeTask) -> None:
    key, _ = make_key()
    make_task(key_id=key.pk)
    urgent = make_task(priority=1, model_id="other")
    more = make_task(priority=1, model_id="other")
    assert [claimed(holding("demo")).pk for _ in range(2)] == [urgent.pk, more.pk]


def test_a_key_that_may_run_nothing_holds_up_nobody(make_task: MakeTask) -> None:
    key, _ = make_key(max_running=0)
    make_task(key_id=key.pk)
    assert (claim(), lifecycle.find_claimable(worker="w")) == (None, None)
    other = make_task()
    assert lifecycle.find_claimable(worker="w") == other.pk
    assert claimed().pk == other.pk


# --- What the worker holds -------------------------------------------------------------------------------------------


def test_what_is_held_goes_first_and_the_rest_by_age(make_task: MakeTask) -> None:
    tasks = [make_task(model_id=name) for name in ("a", "b", "c", "b")]
    found = [claimed(holding("b")).pk for _ in tasks]
    assert found == [tasks[1].pk, tasks[3].pk, tasks[0].pk, tasks[2].pk]


def test_a_task_that_pins_another_revision_is_not_what_is_held(make_task: MakeTask) -> None:
    make_task(model_id="a")
    pinned, free = make_task(model_id="b", revision="r2"), make_task(model_id="b")
    assert claimed(holding("b", revision="r1")).pk == free.pk
    assert claimed(holding("b", revision="r2")).pk == pinned.pk


@pytest.mark.parametrize(
    ("waited", "seconds", "first"),
    [(60, 9.9, "held"), (5, 60, "held"), (10.1, 10, "oldest")],
    ids=["held for a short time", "waits for a short time", "passed over long enough"],
)
def test_the_first_in_line_is_passed_over_for_so_long_and_no_longer(
    make_task: MakeTask, waited: float, seconds: float, first: str
) -> None:
    oldest = make_task(model_id="a")
    age(seconds=waited)
    held = make_task(model_id="b")
    assert claimed(holding("b", seconds=seconds)).pk == {"held": held, "oldest": oldest}[first].pk


def test_a_bound_of_nothing_is_no_preference(make_task: MakeTask, settings: Any) -> None:
    settings.MODEL_AFFINITY_SECONDS = 0
    tasks = [make_task(model_id=name) for name in ("a", "b", "a")]
    assert [claimed(holding("b")).pk for _ in tasks] == [task.pk for task in tasks]


def test_what_waits_behind_the_first_in_line_does_not_end_a_preference(make_task: MakeTask) -> None:
    """Somebody who waited for long, but whose turn it isn't, makes the worker load no model."""
    key, _ = make_key()
    make_task()
    end(claimed())
    make_task(model_id="a")
    age(minutes=1)
    turn = make_task(model_id="b", key_id=key.pk)
    assert claimed(holding("b", seconds=60)).pk == turn.pk


def test_what_has_more_running_is_not_first_in_line_and_does_not_end_a_preference_either(make_task: MakeTask) -> None:
    key, _ = make_key()
    flood(make_task, 2, model_id="a")
    assert claimed().key_id is None
    age(minutes=1)
    make_task(key_id=key.pk)
    end(claimed())
    make_task(model_id="a", key_id=key.pk)
    held = make_task(model_id="b", key_id=key.pk)
    assert claimed(holding("b", seconds=60)).pk == held.pk


def test_alternating_models_switch_once_a_bound_and_hold_up_nobody_longer(make_task: MakeTask) -> None:
    """Forty tasks of one second each, on one worker with room for one model; time passes by making rows older."""
    for number in range(40):
        make_task(model_id="ab"[number % 2])
    order, warm, since, overtaken = [], "", 0, Counter[Any]()
    for second in range(40):
        oldest = Task.objects.filter(status="queued").earliest("created_at")
        task = claimed(holding(*warm, seconds=second - since))
        overtaken[oldest.pk] += task.pk != oldest.pk
        if task.model_id != warm:
            # What a worker holds counts from when it looks for the next task.
            warm, since = task.model_id, second + 1
        order.append(task.model_id)
        end(task)
        age(seconds=1)
    switches = sum(one != other for one, other in zip(["", *order], order, strict=False))
    assert Counter(order) == {"a": 20, "b": 20}
    assert switches <= 4
    assert max(overtaken.values()) <= 10


def test_a_stream_of_what_is_held_delays_another_model_by_the_bound(make_task: MakeTask) -> None:
    other = make_task(model_id="other")
    for second in range(30):
        make_task()
        task = claimed(holding("demo", seconds=second))
        if task.pk == other.pk:
            break
        end(task)
        age(seconds=1)
    assert second == 10


# --- Races -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_eight_workers_at_once_get_eight_tasks_of_one_lane(make_task: MakeTask) -> None:
    for _ in range(5):
        tasks = {make_task().pk for _ in range(8)}
        found = at_once(claim, 8)
        assert {task and task.pk for task in found} == tasks


@pytest.mark.django_db(transaction=True)
def test_eight_racing_workers_claim_every_task_once_and_leave_none(make_task: MakeTask) -> None:
    keys = [None, *(make_key()[0].pk for _ in range(3))]
    for key_id in keys:
        for model_id in ("a", "b"):
            flood(make_task, 20, key_id=key_id, model_id=model_id)

    def work() -> list[Any]:
        found = []
        while task := claim(holding("a")):
            found.append(task.pk)
        return found

    shares = at_once(work, 8)
    every = [task_id for share in shares for task_id in share]
    assert len(every) == len(set(every)) == 160
    assert not Task.objects.filter(status="queued").exists()


@pytest.mark.django_db(transaction=True)
def test_what_another_worker_has_locked_is_passed_by_for_the_next(make_task: MakeTask) -> None:
    key, _ = make_key()
    first, second, third = make_task(), make_task(), make_task(key_id=key.pk)

    def elsewhere() -> Any:
        try:
            return claim()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        list(Task.objects.select_for_update().filter(pk=first.pk))
        assert pool.submit(elsewhere).result().pk == second.pk
        assert pool.submit(elsewhere).result().pk == third.pk
        assert pool.submit(elsewhere).result() is None
    assert claimed().pk == first.pk


# --- Cost ------------------------------------------------------------------------------------------------------------


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", []) for node in nodes(below))]


def test_a_claim_reads_the_heads_of_lanes_and_scans_no_table(make_task: MakeTask) -> None:
    flood(make_task, 20_000)
    Task.objects.filter(status="queued").update(status="canceled", error_code="canceled", finished_at=Now())
    owners = [make_key()[0] for _ in range(20)]
    for key in owners:
        flood(make_task, 100, key_id=key.pk)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Task._meta.db_table}, {ApiKey._meta.db_table}")
        parameters = claim_order.build_parameters("w", holding("demo")) | {"lease_seconds": 30, "taken": 1}
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql.CLAIM_BATCH, parameters)
        (plan,) = cursor.fetchone()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    reads = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == Task._meta.db_table]
    scans = [node for node in reads if "Scan" in node["Node Type"]]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
    assert {"task_lane", "task_served"} <= {node.get("Index Name") for node in scans}
    # Each head, each owner's last claim, the row that is taken.
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 2 * len(owners) + 5
