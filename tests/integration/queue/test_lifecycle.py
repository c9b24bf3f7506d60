"""The transitions: each guarded, each fenced."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection
from django.db.models.functions import Now

from tasks_app.contracts import NO_MODELS, Claim, StoredImage, Success
from tasks_app.engine.types import Progress
from tasks_app.models import Pause, Status, Task, TaskImage
from tasks_app.queue import claim_order, lifecycle, pauses, sql
from tests.support.claims import claim_one, succeed_one

MakeTask = Callable[..., Task]


def claim_of(task: Task) -> Claim:
    return Claim(task_id=task.pk, attempt=task.attempt)


def stored(index: int = 0) -> StoredImage:
    return StoredImage(
        index=index,
        name=f"tasks/x/1-{index}.png",
        content_type="image/png",
        seed=7 + index,
        width=32,
        height=24,
        sha256="0" * 64,
        flagged=False,
        blank=False,
    )


def succeed(task: Task) -> bool:
    size = {"width": 32, "height": 24}
    return succeed_one(claim_of(task), [stored()], revision="r1", timings={"denoising": 1.5}, size=size)


def step(number: int, total: int = 4) -> Progress:
    return Progress(phase="denoising", step=number, total_steps=total)


def overdue(task: Task) -> int:
    return Task.objects.filter(pk=task.pk).update(lease_until=Now() - timedelta(seconds=1))


def past_deadline(task: Task) -> int:
    return Task.objects.filter(pk=task.pk).update(deadline=Now() - timedelta(seconds=1))


def test_the_claim_takes_the_highest_priority_then_the_oldest(make_task: MakeTask) -> None:
    make_task(priority=-1)
    oldest, newer, urgent = make_task(), make_task(), make_task(priority=1)
    claimed = [claim_one(worker="w", lease_seconds=30) for _ in range(3)]
    assert [task and task.pk for task in claimed] == [urgent.pk, oldest.pk, newer.pk]


def test_a_claim_raises_the_attempt_and_leases_the_row(make_task: MakeTask) -> None:
    make_task()
    task = claim_one(worker="w:1", lease_seconds=30)
    assert task is not None
    assert (task.status, task.phase, task.attempt, task.worker) == (Status.RUNNING, "loading", 1, "w:1")
    assert task.lease_until is not None
    assert task.started_at is not None
    assert timedelta(seconds=29) < task.lease_until - task.started_at < timedelta(seconds=31)


def attempts_of(task: Task) -> list[tuple[int, str, str, bool]]:
    return [(row.number, row.worker, row.outcome, row.ended_at is not None) for row in task.attempts.all()]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (lambda task: succeed(task), "succeeded"),
        (lambda task: lifecycle.mark_failed(claim_of(task), code="internal", message=""), "failed"),
        (lambda task: lifecycle.cancel_task(task.pk) and lifecycle.confirm_cancel(claim_of(task)), "canceled"),
        (lambda task: lifecycle.release_task(claim_of(task)), "released"),
        (lambda task: (overdue(task), lifecycle.expire_leases()), "lost"),
        (lambda task: (past_deadline(task), lifecycle.fail_overdue()), "failed"),
    ],
    ids=["succeed", "fail", "cancel", "release", "expire", "time out"],
)
def test_every_attempt_is_kept_with_who_ran_it_and_how_it_ended(
    claimed: MakeTask, end: Callable[[Task], object], outcome: str
) -> None:
    task = claimed()
    assert attempts_of(task) == [(1, "a-worker:1", "", False)]
    assert end(task)
    assert attempts_of(task) == [(1, "a-worker:1", outcome, True)]


def test_each_claim_is_an_attempt_of_its_own(claimed: MakeTask) -> None:
    task = claimed()
    lifecycle.release_task(claim_of(task))
    claim_one(worker="another:2", lease_seconds=30)
    assert attempts_of(task) == [(1, "a-worker:1", "released", True), (2, "another:2", "", False)]


def test_nothing_to_claim_is_none(db: None) -> None:
    assert claim_one(worker="w", lease_seconds=30) is None


def test_a_task_past_its_deadline_is_not_claimed(make_task: MakeTask) -> None:
    make_task(deadline=Now() - timedelta(seconds=1))
    assert claim_one(worker="w", lease_seconds=30) is None


@pytest.mark.django_db(transaction=True)
def test_racing_workers_never_claim_the_same_task(make_task: MakeTask) -> None:
    tasks = {make_task().pk for _ in range(40)}
    start = threading.Barrier(8)
    claimed: list[Any] = []

    def work(name: str) -> None:
        start.wait()
        while task := claim_one(worker=name, lease_seconds=30):
            claimed.append((task.pk, task.attempt))
        connection.close()

    workers = [threading.Thread(target=work, args=[f"w:{number}"]) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(claimed) == sorted((task, 1) for task in tasks)


def test_a_heartbeat_records_progress_and_prolongs_the_lease(claimed: MakeTask) -> None:
    task = claimed(lease_seconds=1)
    beat = lifecycle.renew_leases([claim_of(task)], step(3, total=9), lease_seconds=60)[task.pk]
    assert not beat.cancel_requested
    after = Task.objects.get(pk=task.pk)
    assert (after.phase, after.step, after.total_steps) == ("denoising", 3, 9)
    assert after.lease_until is not None
    assert task.lease_until is not None
    assert after.lease_until > task.lease_until + timedelta(seconds=50)


def test_a_heartbeat_tells_of_a_cancel_and_of_the_deadline(claimed: MakeTask) -> None:
    task = claimed()
    lifecycle.cancel_task(task.pk)
    Task.objects.filter(pk=task.pk).update(deadline=Now() - timedelta(seconds=1))
    beat = lifecycle.renew_leases([claim_of(task)], step(1), lease_seconds=30)[task.pk]
    assert beat.cancel_requested
    assert beat.overdue


@pytest.mark.parametrize(
    "write",
    [
        lambda claim: lifecycle.renew_leases([claim], step(1), lease_seconds=30),
        lambda claim: succeed_one(claim, [stored()]),
        lambda claim: lifecycle.mark_failed(claim, code="internal", message="no"),
        lambda claim: lifecycle.confirm_cancel(claim),
        lambda claim: lifecycle.release_task(claim),
    ],
    ids=["heartbeat", "succeed", "fail", "confirm_cancel", "release"],
)
def test_a_write_of_a_lost_claim_moves_nothing(claimed: MakeTask, write: Callable[[Claim], object]) -> None:
    task = claimed()
    lost = claim_of(task)
    lifecycle.release_task(lost)
    again = claim_one(worker="another:2", lease_seconds=30)
    assert again is not None
    lifecycle.cancel_task(task.pk)
    before = Task.objects.filter(pk=task.pk).values().get()
    assert not write(lost)
    assert Task.objects.filter(pk=task.pk).values().get() == before
    assert not TaskImage.objects.exists()


def test_success_writes_images_size_and_revision_at_once(claimed: MakeTask) -> None:
    task = claimed()
    assert succeed(task)
    after = Task.objects.get(pk=task.pk)
    assert (after.status, after.step, after.revision, after.phase) == (Status.SUCCEEDED, 4, "r1", "")
    assert (after.params["width"], after.params["height"]) == (32, 24)
    assert after.lease_until is None
    assert after.finished_at is not None
    image = after.images.get()
    assert (image.index, image.attempt, image.seed, image.width, image.height) == (0, 1, 7, 32, 24)


def test_repeating_a_success_whose_answer_was_lost_says_true_again(claimed: MakeTask) -> None:
    task = claimed()
    assert succeed(task)
    assert succeed(task)
    assert TaskImage.objects.count() == 1


def test_of_several_that_succeed_each_keeps_its_own_and_what_is_lost_or_canceled_stays(claimed: MakeTask) -> None:
    first, second, lost, canceled = (claimed() for _ in range(4))
    made = [
        Success(claim=claim_of(task), images=(stored(0), stored(1)), revision=f"r{n}", size={"width": n})
        for n, task in enumerate((first, second, lost, canceled))
    ]
    lifecycle.release_task(claim_of(lost))
    lifecycle.cancel_task(canceled.pk)
    ended = lifecycle.mark_succeeded(made)
    assert ended.keys() == {first.pk, second.pk}
    for n, task in enumerate((first, second)):
        after = Task.objects.get(pk=task.pk)
        assert (after.status, after.revision, after.params["width"]) == (Status.SUCCEEDED, f"r{n}", n)
        assert (after.finished_at, after.reproduction) == (ended[task.pk], None)
        assert after.attempts.get().outcome == "succeeded"
        assert [image.index for image in after.images.all()] == [0, 1]
    assert [Task.objects.get(pk=task.pk).status for task in (lost, canceled)] == ["queued", "running"]
    assert TaskImage.objects.count() == 4
    assert lifecycle.mark_succeeded(made) == ended
    assert TaskImage.objects.count() == 4


def test_a_task_that_somebody_canceled_never_succeeds(claimed: MakeTask) -> None:
    task = claimed()
    lifecycle.cancel_task(task.pk)
    assert not succeed(task)
    assert lifecycle.confirm_cancel(claim_of(task))
    after = Task.objects.get(pk=task.pk)
    assert (after.status, after.error_code) == (Status.CANCELED, "canceled")


def test_canceling_a_queued_task_ends_it_at_once(make_task: MakeTask) -> None:
    task = make_task()
    assert lifecycle.cancel_task(task.pk) == Status.CANCELED
    assert claim_one(worker="w", lease_seconds=30) is None


def test_canceling_a_running_task_asks_and_the_first_asking_counts(claimed: MakeTask) -> None:
    task = claimed()
    assert lifecycle.cancel_task(task.pk) == Status.RUNNING
    first = Task.objects.get(pk=task.pk).cancel_requested_at
    assert lifecycle.cancel_task(task.pk) == Status.RUNNING
    assert Task.objects.get(pk=task.pk).cancel_requested_at == first is not None


def test_canceling_what_has_ended_or_never_was_changes_nothing(claimed: MakeTask) -> None:
    task = claimed()
    succeed(task)
    before = Task.objects.filter(pk=task.pk).values().get()
    assert lifecycle.cancel_task(task.pk) is None
    assert lifecycle.cancel_task(uuid4()) is None
    assert Task.objects.filter(pk=task.pk).values().get() == before


def test_a_released_task_keeps_its_place_and_counts_no_loss(claimed: MakeTask, make_task: MakeTask) -> None:
    task = claimed()
    make_task()
    assert lifecycle.release_task(claim_of(task)) == Status.QUEUED
    again = claim_one(worker="w2", lease_seconds=30)
    assert again is not None
    assert (again.pk, again.attempt, again.lost_workers) == (task.pk, 2, 0)


def test_releasing_a_task_that_shall_be_canceled_cancels_it(claimed: MakeTask) -> None:
    task = claimed()
    lifecycle.cancel_task(task.pk)
    assert lifecycle.release_task(claim_of(task)) == Status.CANCELED
    assert Task.objects.get(pk=task.pk).status == Status.CANCELED


def test_an_expired_lease_sends_the_task_back_with_a_loss(claimed: MakeTask) -> None:
    task = claimed()
    overdue(task)
    assert lifecycle.expire_leases() == [(task.pk, Status.QUEUED)]
    after = Task.objects.get(pk=task.pk)
    assert (after.lost_workers, after.attempt, after.worker, after.started_at) == (1, 1, "", None)


def test_a_lease_that_has_not_expired_stays(claimed: MakeTask) -> None:
    claimed()
    assert lifecycle.expire_leases() == []


def test_a_task_that_loses_its_workers_too_often_fails(claimed: MakeTask) -> None:
    task = claimed(max_lost_workers=1)
    overdue(task)
    assert lifecycle.expire_leases() == [(task.pk, Status.FAILED)]
    assert Task.objects.get(pk=task.pk).error_code == "worker_lost"


def test_an_expired_lease_of_a_task_that_shall_be_canceled_cancels_it(claimed: MakeTask) -> None:
    task = claimed()
    lifecycle.cancel_task(task.pk)
    overdue(task)
    assert lifecycle.expire_leases() == [(task.pk, Status.CANCELED)]


def test_a_passed_deadline_fails_queued_and_running_tasks(claimed: MakeTask, make_task: MakeTask) -> None:
    running, queued = claimed(), make_task(deadline=Now() - timedelta(seconds=1))
    Task.objects.filter(pk=running.pk).update(deadline=Now() - timedelta(seconds=1))
    in_time = make_task(deadline=Now() + timedelta(hours=1))
    assert set(lifecycle.fail_overdue()) == {running.pk, queued.pk}
    assert lifecycle.renew_leases([claim_of(running)], step(1), lease_seconds=30) == {}
    assert Task.objects.get(pk=in_time.pk).status == Status.QUEUED


def test_waking_takes_each_task_once_until_it_waited_again(make_task: MakeTask) -> None:
    tasks = [make_task(), make_task()]
    assert lifecycle.mark_woken(worker="w", after_seconds=60, limit=1) == []
    assert lifecycle.mark_woken(worker="w", after_seconds=0, limit=1) == [tasks[0].pk]
    Task.objects.update(created_at=Now() - timedelta(minutes=5))
    assert lifecycle.mark_woken(worker="w", after_seconds=60, limit=5) == [tasks[1].pk]


def test_a_paused_worker_wakes_nobody(make_task: MakeTask) -> None:
    task = make_task()
    pauses.create_pause(Pause.Scope.WORKER, "w")
    assert lifecycle.mark_woken(worker="w", after_seconds=0, limit=1) == []
    assert lifecycle.mark_woken(worker="another", after_seconds=0, limit=1) == [task.pk]


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "lost"},
        {"status": "running"},
        {"phase": "denoising"},
        {"status": "failed"},
        {"status": "succeeded"},
        {"error_code": "internal"},
        {"step": 5},
        {"lost_workers": 1},
        {"max_lost_workers": 0},
        {"priority": 11},
        {"seed": -1},
        {"seed": 2**32},
    ],
    ids=str,
)
def test_the_database_refuses_rows_that_must_never_be(make_task: MakeTask, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        make_task(**fields)


def test_a_claim_does_not_scan_the_table(make_task: MakeTask) -> None:
    one = make_task()
    fields = {
        field.attname: getattr(one, field.attname) for field in Task._meta.concrete_fields if field.attname != "id"
    }
    # Of few rows any index is as good as another.
    Task.objects.bulk_create(Task(**fields) for _ in range(3000))
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Task._meta.db_table}")
        parameters = claim_order.build_parameters("w", NO_MODELS) | {"lease_seconds": 30, "taken": 1}
        cursor.execute("EXPLAIN " + sql.CLAIM_BATCH, parameters)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "task_lane" in plan
