"""The keys' pages: made and shown once, changed, revoked."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tasks_app.access import api_keys
from tasks_app.models import ApiKey, Scope
from tests.integration.admin.pages import body

KEYS = "/admin/tasks_app/apikey/"
FORM = {"name": "bot", "scopes": ["read", "submit"], "expiry_0": "", "expiry_1": "", "webhook_url": ""}


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("ada")


def form(owner: User, **changes: Any) -> dict[str, Any]:
    return {**FORM, "user": owner.pk, **changes}


def make(owner: User) -> ApiKey:
    key, _ = api_keys.create_api_key(user=owner, name="bot", scopes=[Scope.READ])
    return key


def test_a_new_key_is_shown_once_and_works(admin_client: Client, owner: User) -> None:
    answer = admin_client.post(f"{KEYS}add/", form(owner, max_queued="5"))
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    (token,) = re.findall(r"dh_[0-9a-f]{64}", answer.content.decode())
    key = ApiKey.objects.get()
    assert (key.user, key.scopes, key.max_queued, key.expiry) == (owner, ["read", "submit"], 5, None)
    assert key.webhook_secret in answer.content.decode()
    assert Client(headers={"authorization": f"Bearer {token}"}).get("/task").status_code == 200
    for page in (KEYS, f"{KEYS}{key.pk}/change/"):
        assert token not in body(admin_client, page)
    assert LogEntry.objects.filter(object_id=str(key.pk)).count() == 1


def test_an_expiry_is_kept(admin_client: Client, owner: User) -> None:
    admin_client.post(f"{KEYS}add/", form(owner, expiry_0="2999-01-02", expiry_1="03:04:05"))
    expiry = ApiKey.objects.get().expiry
    assert expiry is not None
    told = datetime(2999, 1, 2, 3, 4, 5, tzinfo=timezone.get_current_timezone())
    assert abs(expiry - told) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"user": ""}, "user"),
        ({"max_queued": "-1"}, "max_queued"),
        ({"webhook_url": "nonsense"}, "webhook_url"),
        ({"webhook_url": "https://127.0.0.1/"}, "webhook_url"),
    ],
)
def test_a_wrong_field_is_named(admin_client: Client, owner: User, changes: dict[str, Any], wrong: str) -> None:
    answer = admin_client.post(f"{KEYS}add/", form(owner, **changes))
    assert set(answer.context["adminform"].form.errors) == {wrong}
    assert not ApiKey.objects.exists()


def test_a_second_key_of_the_same_name_is_refused(admin_client: Client, owner: User) -> None:
    make(owner)
    answer = admin_client.post(f"{KEYS}add/", form(owner))
    assert answer.context["adminform"].form.errors
    assert ApiKey.objects.count() == 1


def test_limits_change_and_the_key_stays_itself(admin_client: Client, owner: User) -> None:
    key = make(owner)
    answer = admin_client.post(f"{KEYS}{key.pk}/change/", form(owner, max_running="2", scopes=["read-any"]))
    assert answer.status_code == 302
    before = key.digest
    key.refresh_from_db()
    assert (key.max_running, key.scopes, key.digest, key.user) == (2, ["read-any"], before, owner)


def test_a_key_is_revoked_by_post_alone_and_logged(admin_client: Client, owner: User) -> None:
    key = make(owner)
    page = f"{KEYS}{key.pk}/revoke/"
    assert f"{KEYS}{key.pk}/revoke/" in body(admin_client, f"{KEYS}{key.pk}/change/")
    body(admin_client, page)
    key.refresh_from_db()
    assert key.expiry is None
    assert "bot is revoked." in admin_client.post(page, follow=True).content.decode()
    key.refresh_from_db()
    assert key.expiry is not None
    assert LogEntry.objects.get(object_id=str(key.pk)).change_message == "Revoked."
    assert "bot was already revoked or expired." in admin_client.post(page, follow=True).content.decode()
    assert "Yes, revoke" not in body(admin_client, page)
    assert page not in body(admin_client, f"{KEYS}{key.pk}/change/")
    assert admin_client.get(f"{KEYS}{key.pk + 1}/revoke/").status_code == 404


def test_viewers_see_no_secret_and_change_nothing(staff: Any, owner: User) -> None:
    key = make(owner)
    viewer = staff("view_apikey")
    page = body(viewer, f"{KEYS}{key.pk}/change/")
    assert key.webhook_secret not in page
    assert "/revoke/" not in page
    assert viewer.post(f"{KEYS}{key.pk}/revoke/").status_code == 403
    assert viewer.get(f"{KEYS}add/").status_code == 403
    assert key.webhook_secret in body(staff("change_apikey"), f"{KEYS}{key.pk}/change/")


def test_nobody_deletes_a_key(admin_client: Client, owner: User) -> None:
    key = make(owner)
    assert admin_client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert ApiKey.objects.exists()
