"""Deliveries in the admin: seen by those who may look, sent again by those who may act."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks_app.contracts import DeliveryResult
from tasks_app.models import TERMINAL, WebhookDelivery
from tasks_app.queue import lifecycle
from tasks_app.webhooks import deliveries
from tests.integration.admin.pages import DELIVERIES, MakeTask, body, messages, url_of

State = WebhookDelivery.State
URL = "https://hooks.example/?<b>"


@pytest.fixture
def delivery(make_task: MakeTask) -> Callable[..., WebhookDelivery]:
    """Return a factory of deliveries."""

    def make(**values: Any) -> WebhookDelivery:
        task = make_task(webhook_url=URL, webhook_events=list(TERMINAL), webhook_due=True)
        lifecycle.cancel_task(task.pk)
        deliveries.enqueue_deliveries()
        WebhookDelivery.objects.filter(task=task).update(**values)
        return WebhookDelivery.objects.get(task=task)

    return make


def page_of(delivery: WebhookDelivery) -> str:
    return f"{DELIVERIES}{delivery.pk}/change/"


def again(delivery: WebhookDelivery) -> str:
    return f"{DELIVERIES}{delivery.pk}/again/"


def test_the_list_shows_state_task_receiver_and_answer_and_filters_by_state(
    admin_client: Client, delivery: Callable[..., WebhookDelivery]
) -> None:
    good = delivery(state=State.DELIVERED, attempts=1, last_status=204)
    bad = delivery(state=State.FAILED, attempts=11, last_status=500, last_error="The receiver returned HTTP 500.")
    page = body(admin_client, DELIVERIES)
    assert page.count("https://hooks.example/?&lt;b&gt;</span>") == 2
    assert "<b>" not in page
    assert f'href="{url_of(good.task)}"' in page
    assert "The receiver returned HTTP 500." in page
    only = body(admin_client, f"{DELIVERIES}?state__exact=failed")
    assert page_of(bad) in only
    assert page_of(good) not in only


def test_the_list_asks_as_often_for_many_as_for_one(
    admin_client: Client, delivery: Callable[..., WebhookDelivery]
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            body(admin_client, DELIVERIES)
        return len(asked)

    delivery()
    one = queries()
    for _ in range(5):
        delivery()
    assert queries() == one


def test_a_deliverys_page_and_its_tasks_page_show_how_it_stands(
    admin_client: Client, delivery: Callable[..., WebhookDelivery]
) -> None:
    found = delivery()
    deliveries.record_result(
        deliveries.claim_delivery() or found, DeliveryResult(error="The receiver did not respond in time.")
    )
    for page in (page_of(found), url_of(found.task)):
        text = body(admin_client, page)
        assert "https://hooks.example/?&lt;b&gt;" in text
        assert "The receiver did not respond in time." in text
    assert f'href="{page_of(found)}"' in body(admin_client, url_of(found.task))


@pytest.mark.parametrize("state", [State.PENDING, State.DELIVERED, State.FAILED])
def test_a_get_asks_and_a_post_sends_again_and_is_logged(
    admin_client: Client, admin_user: User, delivery: Callable[..., WebhookDelivery], state: State
) -> None:
    found = delivery(state=state, attempts=3, next_at=Now() + timedelta(hours=8))
    assert again(found) in body(admin_client, page_of(found))
    assert "again?" in body(admin_client, again(found))
    assert deliveries.claim_delivery() is None
    assert messages(admin_client, again(found), {}) == ["The webhook is being sent again."]
    taken = deliveries.claim_delivery()
    assert taken is not None
    assert (taken.pk, taken.attempts) == (found.pk, 1)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.change_message) == (admin_user, str(found.pk), "Sent again.")
    assert "Sent again." in body(admin_client, f"{DELIVERIES}{found.pk}/history/")


def test_what_is_being_sent_is_not_sent_beside_it(
    admin_client: Client, delivery: Callable[..., WebhookDelivery]
) -> None:
    found = delivery()
    deliveries.claim_delivery()
    assert again(found) not in body(admin_client, page_of(found))
    assert "Yes, send again" not in body(admin_client, again(found))
    assert messages(admin_client, again(found), {}) == ["The webhook is already being sent."]
    assert not LogEntry.objects.exists()


def test_one_that_went_with_its_task_leads_back(admin_client: Client, delivery: Callable[..., WebhookDelivery]) -> None:
    found = delivery()
    lifecycle.delete_tasks(found.task_id)
    assert admin_client.post(again(found)).status_code == 302
    assert not LogEntry.objects.exists()


def test_whoever_may_only_look_can_send_nothing_again(
    staff: Callable[..., Client], delivery: Callable[..., WebhookDelivery]
) -> None:
    found, client = delivery(state=State.FAILED), staff("view_webhookdelivery")
    assert again(found) not in body(client, page_of(found))
    assert page_of(found) in body(client, DELIVERIES)
    assert client.get(again(found)).status_code == client.post(again(found)).status_code == 403
    assert WebhookDelivery.objects.get().state == State.FAILED
    assert staff().get(DELIVERIES).status_code == 403


def test_deliveries_are_neither_added_nor_changed_nor_deleted_by_djangos_forms(
    admin_client: Client, delivery: Callable[..., WebhookDelivery]
) -> None:
    found = delivery()
    assert admin_client.get(f"{DELIVERIES}add/").status_code == 403
    assert admin_client.post(page_of(found), {"state": "delivered"}).status_code == 403
    assert admin_client.post(f"{DELIVERIES}{found.pk}/delete/", {"post": "yes"}).status_code == 403
    assert WebhookDelivery.objects.get().state == State.PENDING


def test_a_post_without_a_csrf_token_is_refused(admin_user: User, delivery: Callable[..., WebhookDelivery]) -> None:
    found, client = delivery(state=State.FAILED), Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(again(found)).status_code == 403
    assert WebhookDelivery.objects.get().state == State.FAILED
