"""The field `webhook` of `POST /task`."""

import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks_app import services
from tasks_app.access import api_keys
from tasks_app.models import ApiKey, Scope, Task

BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house"}}
URL = "https://hooks.example/x?y=z"


@pytest.fixture(autouse=True)
def _secret(settings: Any, db: None) -> None:
    settings.WEBHOOK_SECRET = "whsec_" + "A" * 32


def post(client: Client, webhook: Any, *, token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = json.dumps({**BODY, "webhook": webhook})
    return client.post("/task", body, content_type="application/json", headers=headers)


def told(task: dict[str, Any]) -> tuple[str, list[str], bool]:
    row = Task.objects.get(pk=task["id"])
    return row.webhook_url, row.webhook_events, row.webhook_due


@pytest.mark.parametrize(
    ("more", "events"),
    [
        ({}, ["succeeded", "failed", "canceled"]),
        ({"events": ["failed"]}, ["failed"]),
        ({"events": ["canceled", "failed", "canceled"]}, ["canceled", "failed"]),
    ],
)
def test_a_webhook_is_kept_with_the_events_that_it_asks_for_or_all(
    client: Client, more: dict[str, Any], events: list[str]
) -> None:
    answer = post(client, {"url": URL, **more})
    assert answer.status_code == 201
    assert told(answer.json()) == (URL, events, True)


def test_nothing_and_null_are_no_webhook(client: Client) -> None:
    for answer in (post(client, None), client.post("/task", json.dumps(BODY), content_type="application/json")):
        assert told(answer.json()) == ("", [], False)


@pytest.mark.parametrize(
    ("webhook", "path"),
    [
        (URL, "webhook"),
        ([URL], "webhook"),
        (True, "webhook"),
        ({}, "webhook.url"),
        ({"url": None}, "webhook.url"),
        ({"url": 5}, "webhook.url"),
        ({"url": ""}, "webhook.url"),
        ({"url": "\0"}, "webhook.url"),
        ({"url": "\ud800"}, "webhook.url"),
        ({"url": "hooks.example"}, "webhook.url"),
        ({"url": "http://hooks.example/"}, "webhook.url"),
        ({"url": "ftp://hooks.example/"}, "webhook.url"),
        ({"url": "https://user:word@hooks.example/"}, "webhook.url"),
        ({"url": "https://127.0.0.1/"}, "webhook.url"),
        ({"url": "https://2130706433/"}, "webhook.url"),
        ({"url": "https://169.254.169.254/latest/"}, "webhook.url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "webhook.url"),
        ({"url": URL, "secret": "x"}, "webhook.secret"),
        ({"url": URL, "events": []}, "webhook.events"),
        ({"url": URL, "events": None}, "webhook.events"),
        ({"url": URL, "events": "failed"}, "webhook.events"),
        ({"url": URL, "events": {"failed": True}}, "webhook.events"),
        ({"url": URL, "events": ["failed", "running"]}, "webhook.events.1"),
        ({"url": URL, "events": [["failed"]]}, "webhook.events.0"),
    ],
    ids=str,
)
def test_a_wrong_webhook_is_refused_by_the_path_of_its_fault(client: Client, webhook: Any, path: str) -> None:
    answer = post(client, webhook)
    assert answer.status_code == 400
    assert [field["path"] for field in answer.json()["error"]["fields"]] == [path]
    assert not Task.objects.exists()


def test_every_wrong_field_is_told_at_once(client: Client) -> None:
    body = {"params": {"prompt": ""}, "webhook": {"url": "x", "events": [], "more": 1}}
    answer = client.post("/task", json.dumps(body), content_type="application/json")
    assert {field["path"] for field in answer.json()["error"]["fields"]} == {
        *("task_type", "params.prompt", "webhook.url", "webhook.events", "webhook.more")
    }


def test_without_a_secret_a_webhook_is_refused(client: Client, settings: Any) -> None:
    settings.WEBHOOK_SECRET = None
    answer = post(client, {"url": URL})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("webhook: ")
    assert not Task.objects.exists()


def test_http_and_private_networks_are_for_the_settings_to_allow(client: Client, settings: Any) -> None:
    settings.WEBHOOK_ALLOW_HTTP, settings.WEBHOOK_PRIVATE_NETWORKS = True, [ip_network("10.0.0.0/8")]
    assert post(client, {"url": "http://10.1.2.3/hook"}).status_code == 201
    assert post(client, {"url": "http://192.168.0.1/hook"}).status_code == 400


def test_nobody_learns_anothers_webhook_from_a_task(client: Client) -> None:
    answer = post(client, {"url": URL})
    assert URL not in answer.content.decode()
    assert URL not in client.get(f"/task/{answer.json()['id']}").content.decode()


@pytest.fixture
def key(db: None) -> Callable[..., tuple[ApiKey, str]]:
    """Return a factory of keys and what they are sent as."""

    def make(**fields: Any) -> tuple[ApiKey, str]:
        owner, _ = User.objects.get_or_create(username="owner")
        return api_keys.create_api_key(user=owner, name=str(uuid4()), scopes=[Scope.READ, Scope.SUBMIT], **fields)

    return make


def test_a_key_signs_with_a_secret_of_its_own_and_needs_none_of_the_servers(
    client: Client, settings: Any, key: Callable[..., tuple[ApiKey, str]]
) -> None:
    settings.WEBHOOK_SECRET = None
    _, token = key()
    assert told(post(client, {"url": URL}, token=token).json())[0] == URL


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, ("https://hooks.example/key", ["failed"], True)),
        ({"url": URL}, (URL, ["succeeded", "failed", "canceled"], True)),
    ],
)
def test_a_task_without_a_webhook_has_its_keys(
    client: Client, key: Callable[..., tuple[ApiKey, str]], own: Any, expected: tuple[str, list[str], bool]
) -> None:
    _, token = key(webhook_url="https://hooks.example/key", webhook_events=["failed"])
    task = post(client, own, token=token).json()
    assert told(task) == expected
    services.cancel_task(task["id"])
    again, _ = services.retry_task(Task.objects.get(pk=task["id"]), key=uuid4())
    assert told({"id": again.pk}) == expected


def test_a_keys_webhook_that_names_no_events_is_told_of_all(
    client: Client, key: Callable[..., tuple[ApiKey, str]]
) -> None:
    _, token = key(webhook_url="https://hooks.example/key")
    assert told(post(client, None, token=token).json())[1] == ["succeeded", "failed", "canceled"]
    assert told(post(client, None).json()) == ("", [], False)
