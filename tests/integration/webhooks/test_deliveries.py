"""The rows of deliveries: made of every end, handed out once, tried again for a day."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from tasks_app import services
from tasks_app.contracts import Claim, DeliveryResult
from tasks_app.models import TERMINAL, Task, WebhookDelivery
from tasks_app.models.webhooks import WebhookDelivery as Delivery
from tasks_app.queue import lifecycle
from tasks_app.webhooks import deliveries
from tests.support.acting import ScriptedWorker
from tests.support.claims import claim_one

MakeTask = Callable[..., Task]
State = WebhookDelivery.State
URL = "https://hooks.example/"
BROKEN = DeliveryResult(status=500, error="The receiver returned HTTP 500.")


@pytest.fixture
def watched(make_task: MakeTask) -> MakeTask:
    """Return a factory of tasks whose end somebody wants to hear of."""

    def make(*events: str, **fields: Any) -> Task:
        told = {"webhook_url": URL, "webhook_events": list(events or TERMINAL), "webhook_due": True}
        return make_task(**told, **fields)

    return make


def claim_of(task: Task) -> Claim:
    claimed = claim_one(worker="a-worker:1", lease_seconds=30)
    assert claimed is not None
    return Claim(task_id=task.pk, attempt=claimed.attempt)


def succeed(task: Task) -> None:
    ScriptedWorker(task, quietly=True).succeed_task(quietly=True)


def fail(task: Task) -> None:
    assert lifecycle.mark_failed(claim_of(task), code="internal", message="It broke.")


def cancel_queued(task: Task) -> None:
    assert lifecycle.cancel_task(task.pk)


def cancel_running(task: Task) -> None:
    claim = claim_of(task)
    lifecycle.cancel_task(task.pk)
    assert lifecycle.confirm_cancel(claim)


def release_canceled(task: Task) -> None:
    claim = claim_of(task)
    lifecycle.cancel_task(task.pk)
    assert lifecycle.release_task(claim)


def expire(task: Task) -> None:
    claim_of(task)
    Task.objects.update(lease_until=Now() - timedelta(seconds=1), max_lost_workers=1)
    assert lifecycle.expire_leases()


def expire_canceled(task: Task) -> None:
    claim_of(task)
    lifecycle.cancel_task(task.pk)
    Task.objects.update(lease_until=Now() - timedelta(seconds=1))
    assert lifecycle.expire_leases()


def time_out(task: Task) -> None:
    Task.objects.update(deadline=Now() - timedelta(seconds=1))
    assert lifecycle.fail_overdue()


ENDS = {
    succeed: "succeeded",
    fail: "failed",
    cancel_queued: "canceled",
    cancel_running: "canceled",
    release_canceled: "canceled",
    expire: "failed",
    expire_canceled: "canceled",
    time_out: "failed",
}


@pytest.mark.parametrize(("end", "event"), ENDS.items(), ids=[end.__name__ for end in ENDS])
def test_whatever_ends_a_task_becomes_one_delivery(watched: MakeTask, end: Callable[[Task], None], event: str) -> None:
    task = watched()
    deliveries.enqueue_deliveries()
    assert not Delivery.objects.exists()
    end(task)
    for _ in range(3):
        deliveries.enqueue_deliveries()
    delivery = Delivery.objects.get()
    assert (delivery.task_id, delivery.event, delivery.url, delivery.state) == (task.pk, event, URL, State.PENDING)


def test_an_end_that_nobody_asked_for_becomes_none(watched: MakeTask, make_task: MakeTask) -> None:
    for task in (watched("failed"), watched("succeeded", "failed"), make_task()):
        lifecycle.cancel_task(task.pk)
    deliveries.enqueue_deliveries()
    assert not Delivery.objects.exists()
    assert not Task.objects.filter(webhook_due=True).exists()


def test_a_lost_worker_whose_task_is_queued_again_is_no_end(watched: MakeTask) -> None:
    claim_of(watched())
    Task.objects.update(lease_until=Now() - timedelta(seconds=1))
    lifecycle.expire_leases()
    deliveries.enqueue_deliveries()
    assert not Delivery.objects.exists()


def test_a_retry_is_told_to_the_same_receiver(watched: MakeTask) -> None:
    from uuid import uuid4

    task = watched("failed")
    fail(task)
    deliveries.enqueue_deliveries()
    new, _ = services.retry_task(task, key=uuid4())
    assert (new.webhook_url, new.webhook_events, new.webhook_due) == (URL, ["failed"], True)


@pytest.fixture
def due(watched: MakeTask) -> Callable[..., Delivery]:
    """Return a factory of deliveries that are due."""

    def make(**values: Any) -> Delivery:
        task = watched()
        lifecycle.cancel_task(task.pk)
        deliveries.enqueue_deliveries()
        Delivery.objects.filter(task=task).update(**values)
        return Delivery.objects.get(task=task)

    return make


def now_of(delivery: Delivery) -> Delivery:
    return Delivery.objects.get(pk=delivery.pk)


def taken() -> Delivery:
    delivery = deliveries.claim_delivery()
    assert delivery is not None
    return delivery


def test_a_delivery_is_handed_out_once_the_longest_due_first(due: Callable[..., Delivery]) -> None:
    second, first = due(), due(next_at=Now() - timedelta(minutes=1))
    due(next_at=Now() + timedelta(minutes=1))
    assert [taken().pk, taken().pk] == [first.pk, second.pk]
    assert deliveries.claim_delivery() is None
    assert (now_of(first).state, now_of(first).attempts) == (State.SENDING, 1)


def test_what_the_receiver_took_is_not_sent_again(due: Callable[..., Delivery]) -> None:
    delivery = due()
    assert deliveries.record_result(taken(), DeliveryResult(status=204))
    Delivery.objects.update(next_at=Now() - timedelta(days=1))
    assert deliveries.claim_delivery() is None
    after = now_of(delivery)
    assert (after.state, after.attempts, after.last_status, after.last_error) == (State.DELIVERED, 1, 204, "")


def test_it_is_tried_again_ever_more_rarely_for_a_day_and_then_given_up(
    due: Callable[..., Delivery], database_clock: Callable[[], Any]
) -> None:
    delivery = due()
    waited = timedelta(0)
    for delay in deliveries.DELAYS:
        before = database_clock()
        assert deliveries.record_result(taken(), BROKEN)
        settled_by = database_clock()
        assert deliveries.claim_delivery() is None
        after = now_of(delivery)
        wait = after.next_at - before
        assert timedelta(seconds=delay) <= wait
        assert after.next_at - settled_by <= timedelta(seconds=delay * (1 + deliveries.JITTER))
        assert (after.state, after.last_status, after.last_error) == (State.PENDING, 500, BROKEN.error)
        Delivery.objects.update(next_at=Now())
        waited += wait
    assert timedelta(hours=23) < waited < timedelta(hours=27)
    assert deliveries.record_result(taken(), BROKEN)
    Delivery.objects.update(next_at=Now())
    assert deliveries.claim_delivery() is None
    assert (now_of(delivery).state, now_of(delivery).attempts) == (State.FAILED, len(deliveries.DELAYS) + 1)


def test_a_receiver_that_says_it_is_gone_is_not_asked_again(due: Callable[..., Delivery]) -> None:
    delivery = due()
    deliveries.record_result(taken(), DeliveryResult(status=410, error="The receiver returned HTTP 410."))
    assert now_of(delivery).state == State.FAILED


def lose_sender() -> None:
    Delivery.objects.filter(state=State.SENDING).update(next_at=Now() - timedelta(seconds=1))


def test_a_delivery_whose_sender_was_killed_is_handed_out_again_and_the_lost_one_changes_nothing(
    due: Callable[..., Delivery], database_clock: Callable[[], Any]
) -> None:
    delivery = due()
    lost = taken()
    lease = lost.next_at - database_clock()
    assert timedelta(0) < lease <= timedelta(seconds=deliveries.LEASE_SECONDS)
    lose_sender()
    again = taken()
    assert (again.pk, again.attempts, again.last_error) == (delivery.pk, 2, deliveries.SENDER_LOST)
    assert not deliveries.record_result(lost, BROKEN)
    assert now_of(delivery).state == State.SENDING
    assert deliveries.record_result(again, DeliveryResult(status=200))


def test_one_that_always_kills_its_sender_is_given_up_and_holds_nobody_up(due: Callable[..., Delivery]) -> None:
    poison = due(attempts=len(deliveries.DELAYS), next_at=Now() - timedelta(minutes=1))
    good = due()
    assert taken().pk == poison.pk
    lose_sender()
    assert taken().pk == good.pk
    after = now_of(poison)
    assert (after.state, after.last_error, after.attempts) == (
        State.FAILED,
        deliveries.SENDER_LOST,
        len(deliveries.DELAYS) + 1,
    )


@pytest.mark.parametrize("state", [State.PENDING, State.DELIVERED, State.FAILED])
def test_whatever_is_not_under_way_can_be_sent_again(due: Callable[..., Delivery], state: State) -> None:
    delivery = due(state=state, attempts=11, next_at=Now() + timedelta(hours=8))
    assert deliveries.requeue_delivery(delivery.pk)
    again = taken()
    assert (again.pk, again.attempts) == (delivery.pk, 1)


def test_what_is_under_way_is_not_sent_beside_it(due: Callable[..., Delivery]) -> None:
    delivery = due()
    taken()
    assert not deliveries.requeue_delivery(delivery.pk)
    assert deliveries.claim_delivery() is None


@pytest.mark.django_db(transaction=True)
def test_what_another_sender_is_taking_is_passed_by_and_not_waited_for(due: Callable[..., Delivery]) -> None:
    first, second = due(next_at=Now() - timedelta(minutes=1)), due()
    taking, release = threading.Event(), threading.Event()

    def another() -> None:
        with transaction.atomic():
            assert taken().pk == first.pk
            taking.set()
            release.wait(30)
        connection.close()

    thread = threading.Thread(target=another)
    thread.start()
    taking.wait(30)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 2000")
            assert taken().pk == second.pk
    finally:
        release.set()
        thread.join(30)


def in_threads(number: int, work: Callable[[], None]) -> None:
    """Do it in so many threads that begin together."""
    together = threading.Barrier(number)

    def run() -> None:
        together.wait(30)
        try:
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


@pytest.mark.django_db(transaction=True)
def test_senders_at_the_same_moment_never_make_or_get_the_same(watched: MakeTask) -> None:
    tasks = [watched() for _ in range(60)]
    for task in tasks:
        lifecycle.cancel_task(task.pk)
    got: list[Delivery] = []

    def send() -> None:
        while True:
            deliveries.enqueue_deliveries()
            delivery = deliveries.claim_delivery()
            if delivery is None:
                return
            got.append(delivery)

    in_threads(8, send)
    while delivery := deliveries.claim_delivery():  # a sender that found everything locked has left
        got.append(delivery)
    assert len(got) == len({delivery.pk for delivery in got}) == len(tasks)
    assert {delivery.task_id for delivery in got} == {task.pk for task in tasks}
