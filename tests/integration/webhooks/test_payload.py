"""What a receiver is sent."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tasks_app.access import api_keys
from tasks_app.contracts import Claim, WebhookRequest
from tasks_app.models import TERMINAL, ApiKey, Scope, Task, WebhookDelivery
from tasks_app.queue import lifecycle
from tasks_app.webhooks import deliveries, payload
from tests.support.acting import ScriptedWorker
from tests.support.claims import claim_one

MakeTask = Callable[..., Task]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def _secret(settings: Any) -> None:
    settings.WEBHOOK_SECRET = SECRET


@pytest.fixture
def watched(make_task: MakeTask) -> Task:
    return make_task(webhook_url="https://hooks.example/", webhook_events=list(TERMINAL), webhook_due=True)


def letter() -> WebhookRequest:
    deliveries.enqueue_deliveries()
    found = payload.build_webhook_request(WebhookDelivery.objects.get())
    assert found is not None
    return found


def test_a_success_is_told_with_its_pictures_and_paths(watched: Task) -> None:
    ScriptedWorker(watched, quietly=True).succeed_task(quietly=True)
    content = json.loads(letter().content)
    watched.refresh_from_db()
    image = watched.images.get()
    assert content.keys() == {"type", "timestamp", "data"}
    assert (content["type"], content["timestamp"]) == ("task.succeeded", content["data"]["finished_at"])
    here = f"/task/{watched.pk}"
    assert content["data"] == {
        "id": str(watched.pk),
        "task_type": "text-to-image",
        "status": "succeeded",
        "model": {"id": "demo", "revision": "x"},
        "images": [
            {
                "index": 0,
                "url": f"{here}/images/0",
                "seed": 7,
                "width": 32,
                "height": 32,
                "content_type": "image/png",
                "sha256": image.sha256,
            }
        ],
        "error": None,
        "created_at": content["data"]["created_at"],
        "started_at": content["data"]["started_at"],
        "finished_at": content["data"]["finished_at"],
        "retried_from": None,
        "urls": {"self": here, "images": f"{here}/images"},
    }


def test_a_failure_is_told_with_its_error_and_without_its_traceback(watched: Task) -> None:
    claimed = claim_one(worker="w", lease_seconds=30)
    assert claimed is not None
    claim = Claim(task_id=watched.pk, attempt=claimed.attempt)
    lifecycle.mark_failed(claim, code="out_of_memory", message="Too small.", traceback="SECRET")
    content = letter().content
    data = json.loads(content)["data"]
    assert data["error"] == {"code": "out_of_memory", "message": "Too small.", "retryable": True}
    assert b"SECRET" not in content


def test_with_a_public_url_the_links_are_absolute(watched: Task, settings: Any) -> None:
    settings.PUBLIC_URL = "https://pictures.example"
    lifecycle.cancel_task(watched.pk)
    assert json.loads(letter().content)["data"]["urls"]["self"] == f"https://pictures.example/task/{watched.pk}"


def test_the_letter_is_signed_and_bears_the_same_id_and_content_in_every_attempt(watched: Task) -> None:
    lifecycle.cancel_task(watched.pk)
    first, second = letter(), letter()
    assert Webhook(SECRET).verify(first.content, dict(first.headers))["type"] == "task.canceled"
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(WebhookDelivery.objects.get().pk)
    assert first.content == second.content


def test_the_letter_of_a_keys_task_is_signed_with_the_keys_own_secret(watched: Task) -> None:
    key, _ = api_keys.create_api_key(user=User.objects.create(username="owner"), name="bot", scopes=[Scope.SUBMIT])
    Task.objects.update(key=key)
    lifecycle.cancel_task(watched.pk)
    found = letter()
    assert Webhook(key.webhook_secret).verify(found.content, dict(found.headers))["type"] == "task.canceled"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(found.content, dict(found.headers))


def test_without_a_secret_there_is_nothing_to_send(watched: Task, settings: Any) -> None:
    lifecycle.cancel_task(watched.pk)
    deliveries.enqueue_deliveries()
    settings.WEBHOOK_SECRET = None
    assert payload.build_webhook_request(WebhookDelivery.objects.get()) is None


def test_a_key_that_is_made_with_a_webhook_says_what_signs_it_and_a_wrong_url_makes_none(
    db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    User.objects.create(username="owner")
    call_command("apikey", "create", "bot", "--owner=owner", "--webhook=https://hooks.example/")
    key = ApiKey.objects.get()
    assert key.webhook_url == "https://hooks.example/"
    assert key.webhook_secret in capsys.readouterr().err
    with pytest.raises(CommandError, match="--webhook: Must start with https://"):
        call_command("apikey", "create", "other", "--owner=owner", "--webhook=http://hooks.example/")
    assert ApiKey.objects.count() == 1
