"""Deliveries by a worker's thread to real receivers."""

import base64
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now
from standardwebhooks.webhooks import Webhook

from tasks_app.models import TERMINAL, Task, WebhookDelivery
from tasks_app.queue import dispatch, lifecycle
from tasks_app.webhooks import deliveries, sender
from tests.support.receivers import Receiver, respond_with, run_receiver
from tests.support.stack import run_worker, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
MakeTask = Callable[..., Task]
State = WebhookDelivery.State
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def _loopback(settings: Any) -> None:
    settings.WEBHOOK_SECRET, settings.WEBHOOK_ALLOW_HTTP = SECRET, True
    settings.WEBHOOK_PRIVATE_NETWORKS = [ip_network("127.0.0.0/8")]


@pytest.fixture
def ended(make_task: MakeTask) -> Callable[[str], Task]:
    """Return a factory of tasks that were canceled, of which a receiver is to hear."""

    def make(url: str) -> Task:
        task = make_task(webhook_url=url, webhook_events=list(TERMINAL), webhook_due=True)
        lifecycle.cancel_task(task.pk)
        return task

    return make


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, and try again at once."""
    monkeypatch.setattr(sender, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(deliveries, "DELAYS", (0.01,) * len(deliveries.DELAYS))


@contextmanager
def couriers(number: int = 1) -> Iterator[None]:
    """Let so many workers deliver."""
    stop = threading.Event()
    threads = [threading.Thread(target=sender.run_forever, args=[stop]) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def settled(task: Task) -> WebhookDelivery:
    """Wait until the delivery goes on no more by itself."""
    found = wait_until(
        lambda: WebhookDelivery.objects.filter(task=task).first(),
        lambda delivery: delivery and delivery.state in {State.DELIVERED, State.FAILED},
    )
    assert found is not None
    return found


@pytest.mark.usefixtures("quick")
def test_a_receiver_can_verify_what_it_is_told_and_what_failed_is_told_again_under_the_same_id(
    ended: Callable[[str], Task],
) -> None:
    with run_receiver(respond_with(500), respond_with(302, Location="/"), respond_with(200)) as receiver, couriers():
        task = ended(receiver.build_url())
        calls = [receiver.wait_for_call() for _ in range(3)]
        delivery = settled(task)
    told = [Webhook(SECRET).verify(call.content, dict(call.headers)) for call in calls]
    assert {(one["type"], one["data"]["id"]) for one in told} == {("task.canceled", str(task.pk))}
    assert {call.headers["webhook-id"] for call in calls} == {str(delivery.pk)}
    assert (delivery.state, delivery.attempts, delivery.last_status) == (State.DELIVERED, 3, 200)


@pytest.mark.usefixtures("quick")
def test_a_slow_receiver_holds_up_no_other(ended: Callable[[str], Task]) -> None:
    release = threading.Event()

    def wait(request: BaseHTTPRequestHandler) -> None:
        release.wait(30)
        respond_with(204)(request)

    with run_receiver(wait) as slow, run_receiver() as fast, couriers():
        waiting = ended(slow.build_url())
        slow.wait_for_call()
        assert settled(ended(fast.build_url())).state == State.DELIVERED
        meanwhile = WebhookDelivery.objects.get(task=waiting)
        assert (meanwhile.state, meanwhile.attempts) == (State.SENDING, 1)
        release.set()
        assert settled(waiting).state == State.DELIVERED


@pytest.mark.usefixtures("quick")
def test_several_workers_deliver_everything_once(ended: Callable[[str], Task]) -> None:
    with run_receiver() as receiver:
        tasks = {str(ended(receiver.build_url()).pk) for _ in range(40)}
        with couriers(3):
            wait_until(lambda: WebhookDelivery.objects.filter(state=State.DELIVERED).count(), lambda n: n == len(tasks))
        ids = [Webhook(SECRET).verify(call.content, dict(call.headers))["data"]["id"] for call in _all(receiver)]
    assert sorted(ids) == sorted(tasks)


def _all(receiver: Receiver) -> list[Any]:
    return [receiver.calls.get_nowait() for _ in range(receiver.calls.qsize())]


@pytest.mark.usefixtures("quick")
def test_an_address_that_is_not_public_is_not_called_and_the_row_says_so(
    ended: Callable[[str], Task], settings: Any
) -> None:
    settings.WEBHOOK_PRIVATE_NETWORKS = []
    with run_receiver() as receiver, couriers():
        delivery = settled(ended(receiver.build_url("localhost")))
        assert receiver.calls.empty()
    assert (delivery.state, delivery.last_status) == (State.FAILED, None)
    assert delivery.last_error == "Not sent. The host name resolves to an address that is not public."


def test_what_cannot_be_signed_is_not_sent(ended: Callable[[str], Task], settings: Any) -> None:
    settings.WEBHOOK_SECRET = None
    with run_receiver() as receiver:
        ended(receiver.build_url())
        deliveries.enqueue_deliveries()
        delivery = deliveries.claim_delivery()
        assert delivery is not None
        sender.send_delivery(delivery)
        assert receiver.calls.empty()
    assert WebhookDelivery.objects.get().last_error == sender.SECRET_MISSING.error


def test_a_task_that_is_deleted_meanwhile_is_told_to_nobody(ended: Callable[[str], Task]) -> None:
    with run_receiver() as receiver:
        task = ended(receiver.build_url())
        deliveries.enqueue_deliveries()
        delivery = deliveries.claim_delivery()
        lifecycle.delete_tasks(task.pk)
        assert delivery is not None
        sender.send_delivery(delivery)
        assert receiver.calls.empty()


def test_a_worker_that_is_killed_while_it_sends_is_replaced_by_the_next(make_task: MakeTask, tmp_path: Path) -> None:
    variables = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_ALLOW_HTTP": "true", "WEBHOOK_PRIVATE_NETWORKS": "127.0.0.0/8"}
    never = threading.Event()
    with run_receiver(lambda request: never.wait(30) and None, respond_with(204)) as receiver:
        with run_worker(tmp_path, **variables) as first:
            told = {"webhook_url": receiver.build_url(), "webhook_events": ["succeeded"], "webhook_due": True}
            task = make_task(params={"steps": 1}, **told)
            dispatch.send_wake_up(task.pk)
            receiver.wait_for_call()
            os.killpg(first.pid, signal.SIGKILL)
        never.set()
        assert WebhookDelivery.objects.get().state == State.SENDING
        WebhookDelivery.objects.update(next_at=Now() - timedelta(seconds=1))
        with run_worker(tmp_path, **variables):
            call = receiver.wait_for_call()
            delivery = settled(task)
    assert Webhook(SECRET).verify(call.content, dict(call.headers))["type"] == "task.succeeded"
    assert (delivery.state, delivery.attempts) == (State.DELIVERED, 2)
