"""Where tasks went: told and counted, whoever ends them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from tasks_app import services
from tasks_app.events import progress, status_events
from tasks_app.models import Status, Task
from tasks_app.worker import supervisor, sweeper
from tests.support.fake import handler as fake

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    progress.client.delete(status_events.COUNTERS_KEY)


def ended() -> dict[tuple[str, ...], float]:
    counts = status_events.read_counters()
    assert counts is not None
    return {labels: value for labels, value in counts.items() if labels[0] in ("ended", "failures")}


@pytest.mark.django_db(transaction=True)
def test_what_a_worker_ends_is_counted_once_with_its_code(make_task: MakeTask, behave: Callable[..., str]) -> None:
    make_task()
    make_task(params={"prompt": behave("fail", fake.fail)})
    assert supervisor.run_once()
    assert supervisor.run_once()
    assert ended() == {
        ("ended", "succeeded", "demo"): 1,
        ("ended", "failed", "demo"): 1,
        ("failures", "internal", "demo"): 1,
    }


def test_what_the_sweeper_ends_is_counted_and_what_it_queues_again_is_not(
    make_task: MakeTask, claimed: MakeTask
) -> None:
    claimed(max_lost_workers=1), claimed()
    make_task(deadline=Now() - timedelta(seconds=1))
    Task.objects.filter(status=Status.RUNNING).update(lease_until=Now() - timedelta(seconds=1))
    assert len(sweeper.sweep_tasks()) == 3
    assert ended() == {
        ("ended", "failed", "demo"): 2,
        ("failures", "worker_lost", "demo"): 1,
        ("failures", "timed_out", "demo"): 1,
    }


def test_a_cancel_of_a_queued_task_is_counted_and_the_second_is_none(make_task: MakeTask) -> None:
    task = make_task()
    services.cancel_task(task.pk), services.cancel_task(task.pk)
    assert ended() == {("ended", "canceled", "demo"): 1}


def test_waits_and_runs_are_counted_in_the_bucket_that_holds_them(make_task: MakeTask) -> None:
    finished = timezone.now()
    started = finished - timedelta(seconds=2.5)
    for code, status in (("", Status.SUCCEEDED), ("internal", Status.FAILED)):
        times = {"created_at": started - timedelta(hours=2), "started_at": started, "finished_at": finished}
        status_events.publish_status(make_task(status=status, error_code=code, attempt=1, **times).pk, status)
    counts = status_events.read_counters()
    assert counts is not None
    bucket, beyond = str(status_events.HISTOGRAM_BUCKETS.index(2.5)), str(len(status_events.HISTOGRAM_BUCKETS))
    assert {labels: value for labels, value in counts.items() if labels[0] not in ("ended", "failures")} == {
        ("wait", "demo", beyond): 1,
        ("wait_sum", "demo"): 7200,
        ("run", "demo", bucket): 1,
        ("run_sum", "demo"): 2.5,
    }


def test_without_redis_nothing_is_counted_and_nothing_fails(make_task: MakeTask) -> None:
    task = make_task()
    progress.trip_breaker(TimeoutError())
    services.cancel_task(task.pk)
    assert status_events.read_counters() is None
    assert Task.objects.get(pk=task.pk).status == Status.CANCELED


def test_a_status_on_the_way_is_told_and_not_counted(
    make_task: MakeTask, events: Callable[..., list[tuple[str, dict[str, Any]]]]
) -> None:
    task = make_task()
    status_events.publish_status(task.pk, Status.RUNNING, attempt=1)
    assert events(task.pk) == [("status", {"status": "running", "attempt": 1})]
    assert ended() == {}
