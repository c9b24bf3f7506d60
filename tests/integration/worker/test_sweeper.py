"""The sweeper: silent workers, passed deadlines, lost tickets."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import GenerationRequest
from tasks_app.models import Status, Task
from tasks_app.worker import supervisor, sweeper
from tests.integration.queue.test_services import tickets

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def _empty_queue() -> None:
    dramatiq.get_broker().flush_all()


def status(task: Task) -> str:
    return Task.objects.get(pk=task.pk).status


def test_a_task_of_a_silent_worker_is_queued_again_with_a_ticket(
    claimed: MakeTask, events: Callable[..., list[tuple[str, dict[str, Any]]]]
) -> None:
    task = claimed()
    Task.objects.update(lease_until=Now() - timedelta(seconds=1))
    sweeper.sweep_tasks()
    assert status(task) == Status.QUEUED
    assert tickets() == [str(task.pk)]
    assert events(task.pk) == [("status", {"status": "queued"})]


def test_a_passed_deadline_fails_the_task(make_task: MakeTask) -> None:
    task = make_task(deadline=Now() - timedelta(seconds=1))
    sweeper.sweep_tasks()
    assert status(task) == Status.FAILED
    assert tickets() == []


@pytest.mark.django_db(transaction=True)
def test_only_one_of_several_sweepers_sweeps(claimed: MakeTask) -> None:
    task = claimed()
    Task.objects.update(lease_until=Now() - timedelta(seconds=1))
    holding, release = threading.Event(), threading.Event()

    def another() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [sweeper.ADVISORY_LOCK_ID])
            holding.set()
            release.wait(30)
        connection.close()

    thread = threading.Thread(target=another)
    thread.start()
    holding.wait(30)
    sweeper.sweep_tasks()
    assert status(task) == Status.RUNNING
    release.set()
    thread.join()
    sweeper.sweep_tasks()
    assert status(task) == Status.QUEUED


def test_an_idle_worker_sends_one_ticket_for_a_task_that_waits_too_long(make_task: MakeTask) -> None:
    tasks = [make_task() for _ in range(3)]
    sweeper.resend_lost_wake_ups(after_seconds=60)
    assert tickets() == []
    Task.objects.update(created_at=Now() - timedelta(minutes=5))
    sweeper.resend_lost_wake_ups(after_seconds=60)
    assert len(tickets()) == 1
    assert tickets()[0] in {str(task.pk) for task in tasks}


@pytest.mark.django_db(transaction=True)
def test_a_busy_worker_sends_none(make_task: MakeTask, behave: Callable[..., str]) -> None:
    def look(request: GenerationRequest, report: ProgressCallback) -> None:
        sweeper.resend_lost_wake_ups(after_seconds=0)
        connection.close()

    make_task(params={"prompt": behave("look", look)}, priority=1)
    make_task()
    supervisor.run_once()
    assert tickets() == []
    sweeper.resend_lost_wake_ups(after_seconds=0)
    assert len(tickets()) == 1


@pytest.mark.django_db(transaction=True)
def test_the_thread_wakes_at_once_when_it_starts_and_leaves_no_connection(make_task: MakeTask) -> None:
    make_task()
    stop = threading.Event()
    thread = threading.Thread(target=sweeper.run_forever, args=[stop])
    thread.start()
    while not tickets():
        assert thread.is_alive()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
