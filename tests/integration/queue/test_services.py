"""Submitting, canceling and retrying, with real tickets in Redis."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
import redis
from django.db import connection, transaction

from tasks_app import actors, services
from tasks_app.access import permissions
from tasks_app.contracts import Claim, Submission
from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import GenerationRequest
from tasks_app.events import progress
from tasks_app.models import Pause, Status, Task
from tasks_app.queue import lifecycle
from tasks_app.worker import saver
from tests.conftest import PARAMS
from tests.support.fake.handler import Behaviour
from tests.support.stack import wait_until

QUEUE = "dramatiq:generate"


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    dramatiq.get_broker().flush_all()
    yield
    dramatiq.get_broker().flush_all()


def tickets() -> list[str]:
    """Return the task ids of the tickets that wait in Redis."""
    messages = progress.client.hgetall(f"{QUEUE}.msgs")
    return [json.loads(message)["args"][0] for message in messages.values()]


def submission(**more: Any) -> Submission:
    values: dict[str, Any] = {
        "task_type": "text-to-image",
        "provider": "fake",
        "requested_model_id": "demo",
        "model_id": "demo",
        "revision": "",
        "params": PARAMS,
        "seed": 7,
        "priority": 3,
    }
    return Submission(**{**values, **more})


def submit() -> Task:
    task, new = services.submit_task(submission(), caller=permissions.ANONYMOUS)
    assert new
    return task


def test_a_submitted_task_is_queued_with_all_that_was_asked_for(db: None) -> None:
    task = Task.objects.get(pk=submit().pk)
    assert (task.status, task.priority, task.seed, task.total_steps) == (Status.QUEUED, 3, 7, 4)
    assert (task.params, task.max_lost_workers, task.deadline) == (PARAMS, 3, None)


def test_the_deadline_of_the_settings_counts_from_the_submission(db: None, settings: Any) -> None:
    settings.TASK_DEADLINE_SECONDS = 60
    task = Task.objects.get(pk=submit().pk)
    assert task.deadline == task.created_at + timedelta(seconds=60)


@pytest.mark.django_db(transaction=True)
def test_the_ticket_is_sent_on_commit_and_carries_the_id_alone() -> None:
    with transaction.atomic():
        task = submit()
        assert tickets() == []
    assert tickets() == [str(task.pk)]


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_rolled_back_sends_no_ticket() -> None:
    with transaction.atomic():
        submit()
        transaction.set_rollback(True)
    assert not Task.objects.exists()
    assert tickets() == []


@pytest.mark.django_db(transaction=True)
def test_without_redis_a_task_is_queued_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=None)  # type: ignore[arg-type]
    broker: Any = dramatiq.get_broker()
    with monkeypatch.context() as redis_down:
        redis_down.setitem(broker.scripts, "dispatch", nowhere.register_script("return 1"))
        task = submit()
    assert Task.objects.get(pk=task.pk).status == Status.QUEUED


def test_a_canceled_task_tells_its_watchers(
    make_task: Callable[..., Task], events: Callable[..., list[tuple[str, dict[str, Any]]]]
) -> None:
    task = make_task()
    assert services.cancel_task(task.pk)
    assert events(task.pk) == [("status", {"status": "canceled"})]
    assert not services.cancel_task(task.pk)


def test_a_retry_is_a_new_task_with_the_same_request(claimed: Callable[..., Task]) -> None:
    old = claimed(seed=99, priority=-2)
    lifecycle.mark_failed(Claim(task_id=old.pk, attempt=1), code="internal", message="")
    before = Task.objects.filter(pk=old.pk).values().get()
    made, created = services.retry_task(old, key=uuid4())
    assert created
    new = Task.objects.get(pk=made.pk)
    assert (new.status, new.seed, new.params, new.priority) == (Status.QUEUED, 99, old.params, -2)
    assert (new.retried_from_id, new.attempt) == (old.pk, 0)
    assert Task.objects.filter(pk=old.pk).values().get() == before


@pytest.mark.django_db(transaction=True)
def test_the_same_retry_at_the_same_moment_is_one_task(claimed: Callable[..., Task]) -> None:
    old, key, start = claimed(), uuid4(), threading.Barrier(4)
    lifecycle.mark_failed(Claim(task_id=old.pk, attempt=1), code="internal", message="")
    made: list[tuple[Task, bool]] = []

    def retry() -> None:
        start.wait()
        made.append(services.retry_task(old, key=key))
        connection.close()

    threads = [threading.Thread(target=retry) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created for _, created in made) == [False, False, False, True]
    assert len({task.pk for task, _ in made}) == Task.objects.filter(retried_from=old).count() == 1


def test_a_retry_means_what_the_request_meant(claimed: Callable[..., Task]) -> None:
    task = claimed(explicit_params=["guidance_scale"])
    lifecycle.mark_failed(Claim(task_id=task.pk, attempt=task.attempt), code="internal", message="", traceback="")
    new, _ = services.retry_task(task, key=uuid4())
    assert new.explicit_params == ["guidance_scale"]


def test_only_a_queued_task_gets_another_priority(make_task: Callable[..., Task], claimed: Callable[..., Task]) -> None:
    running, queued = claimed(), make_task()
    assert services.set_priority(queued.pk, 7)
    assert not services.set_priority(running.pk, 7)
    assert dict(Task.objects.values_list("pk", "priority")) == {queued.pk: 7, running.pk: 0}


def test_only_an_ended_task_is_deleted(claimed: Callable[..., Task]) -> None:
    task = claimed()
    assert not services.delete_task(task)
    lifecycle.mark_failed(Claim(task_id=task.pk, attempt=1), code="internal", message="")
    # The caller's copy is from before the end.
    assert not services.delete_task(task)
    task.refresh_from_db()
    assert services.delete_task(task)
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("scope", "target"), [(Pause.Scope.QUEUE, ""), (Pause.Scope.MODEL, "demo"), (Pause.Scope.WORKER, "w")]
)
def test_whoever_resumes_wakes_a_worker_if_something_waits(
    make_task: Callable[..., Task], scope: Pause.Scope, target: str
) -> None:
    services.pause_claims(scope, target)
    services.resume_claims(scope, target)
    assert tickets() == []
    task = make_task()
    services.pause_claims(scope, target)
    assert services.resume_claims(scope, target)
    assert not services.resume_claims(scope, target)
    assert tickets() == [str(task.pk)]


@pytest.mark.django_db(transaction=True)
def test_a_ticket_wakes_a_worker_for_all_that_waits_and_others_are_woken_while_it_runs(
    make_task: Callable[..., Task], behave: Callable[[str, Behaviour], str]
) -> None:
    seen: list[list[str]] = []

    def look(request: GenerationRequest, report: ProgressCallback) -> None:
        seen.append(wait_until(tickets, bool))

    first, second = make_task(params={"prompt": behave("look", look)}), make_task()
    actors.generate.fn(str(second.pk))
    saver.flush_pending()
    assert seen == [[str(second.pk)]]
    assert {task.status for task in Task.objects.all()} == {Status.SUCCEEDED}
    sooner, later = (Task.objects.get(pk=task.pk).finished_at for task in (first, second))
    assert sooner is not None
    assert later is not None
    assert sooner < later
    assert tickets() == [str(second.pk)]


@pytest.mark.django_db(transaction=True)
def test_tickets_do_not_pile_up_under_steady_load() -> None:
    for number in range(10):
        submit()
        submit()
        _take_a_ticket()
        actors.generate.fn("any")
        # One was taken of the two that came; nobody added any.
        assert len(tickets()) == number + 1
    while tickets():
        _take_a_ticket()
        actors.generate.fn("any")
    saver.flush_pending()
    assert not Task.objects.exclude(status=Status.SUCCEEDED).exists()


def _take_a_ticket() -> None:
    """Take one as a consumer does."""
    consumer: Any = dramatiq.get_broker().consume("generate", timeout=1)
    message = next(message for message in consumer if message)
    consumer.ack(message)


@pytest.mark.django_db(transaction=True)
def test_a_spare_ticket_costs_one_empty_claim(db: None) -> None:
    actors.generate.fn("no-such-task")
    assert tickets() == []
