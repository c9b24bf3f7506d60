"""Keys: made, held to limits, revoked; and the command that does so."""

import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from tasks_app.access import api_keys
from tasks_app.contracts import Limits
from tasks_app.models import ApiKey, Scope


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("ada")


def command(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("apikey", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue()


def test_a_key_is_kept_as_a_hash_alone(owner: User) -> None:
    key, token = api_keys.create_api_key(user=owner, name="bot", scopes=[Scope.READ])
    assert token.startswith("dh_")
    row = ApiKey.objects.values().get(pk=key.pk)
    assert not any(token in str(value) for value in row.values())
    assert row["token_key"] == token[:15]
    assert row["webhook_secret"].startswith("whsec_")


def test_what_a_key_does_not_limit_the_settings_do(owner: User, settings: Any) -> None:
    settings.RATE_LIMIT_PER_MINUTE, settings.MAX_QUEUED_PER_KEY = 60, None
    own, _ = api_keys.create_api_key(user=owner, name="own", scopes=[Scope.READ], rate_per_minute=5, max_queued=0)
    assert api_keys.get_key_principal(own).limits == Limits(rate_per_minute=5, max_queued=0)
    plain, _ = api_keys.create_api_key(user=owner, name="plain", scopes=[Scope.READ])
    assert api_keys.get_key_principal(plain).limits == Limits(rate_per_minute=60, max_queued=None)


def test_a_key_is_revoked_once_and_stays(owner: User) -> None:
    key, _ = api_keys.create_api_key(user=owner, name="bot", scopes=[Scope.READ])
    assert api_keys.revoke_api_key(key)
    assert not api_keys.revoke_api_key(key)
    key.refresh_from_db()
    assert key.expiry is not None
    assert key.expiry <= timezone.now()


def test_use_is_noted_at_most_once_in_a_while(owner: User) -> None:
    key, _ = api_keys.create_api_key(user=owner, name="bot", scopes=[Scope.READ])
    api_keys.touch_api_key(key)
    key.refresh_from_db()
    first = key.last_used_at
    assert first is not None
    api_keys.touch_api_key(key)
    key.refresh_from_db()
    assert key.last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(seconds=api_keys.TOUCH_INTERVAL_SECONDS + 1))
    key.refresh_from_db()
    api_keys.touch_api_key(key)
    key.refresh_from_db()
    assert key.last_used_at >= first


def test_the_command_prints_the_key_alone(owner: User) -> None:
    token, said = command("create", "bot", "--owner", "ada", "--scope", "read", "--scope", "cancel-any", "--days", "3")
    key = ApiKey.objects.get()
    assert token.startswith(key.token_key)
    assert "\n" not in token
    assert (key.user, key.name, key.scopes) == (owner, "bot", ["read", "cancel-any"])
    assert key.expiry is not None
    assert timedelta(days=2.9) < key.expiry - timezone.now() < timedelta(days=3)
    assert token not in said


def test_the_command_makes_a_usual_key_with_limits(owner: User) -> None:
    command("create", "bot", "--owner", "ada", "--max-queued", "3", "--max-running", "1", "--rate", "9")
    key = ApiKey.objects.get()
    assert (key.scopes, key.expiry) == (api_keys.DEFAULT_SCOPES, None)
    assert (key.max_queued, key.max_running, key.rate_per_minute) == (3, 1, 9)


def test_the_command_says_what_is_wrong(owner: User) -> None:
    with pytest.raises(CommandError, match="--owner: there is no user eve"):
        command("create", "bot", "--owner", "eve")
    command("create", "bot", "--owner", "ada")
    with pytest.raises(CommandError, match="has a key of this name already"):
        command("create", "bot", "--owner", "ada")
    with pytest.raises(CommandError, match="no such key"):
        command("revoke", "0")


def test_the_command_lists_and_revokes(owner: User) -> None:
    command("create", "bot", "--owner", "ada")
    key = ApiKey.objects.get()
    listed, _ = command("list")
    assert listed.split("\t") == [str(key.pk), "ada", "bot", "read,submit,models", "never used"]
    assert command("revoke", str(key.pk))[0].endswith(" revoked.")
    assert command("list")[0].endswith(", expired/revoked")
