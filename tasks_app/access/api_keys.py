"""Creation, revocation and limits of API keys; knox hashes the keys and looks them up."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from tasks_app.contracts import Limits, Principal, Webhook
from tasks_app.models import ApiKey, Scope, WebhookEvent

DEFAULT_SCOPES = [Scope.READ, Scope.SUBMIT, Scope.MODELS]
# Limits the writes of `last_used_at`.
TOUCH_INTERVAL_SECONDS = 60


def create_api_key(
    *, user: User, name: str, scopes: Iterable[Scope], expires_in: timedelta | None = None, **limits: Any
) -> tuple[ApiKey, str]:
    """Create a key and return it with its token, which can't be read again; `limits` are fields of the row."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    fields = {"name": name, "scopes": list(scopes), "webhook_secret": secret, **limits}
    key, token = ApiKey.objects.create(user, expires_in, **fields)
    return key, str(token)


def revoke_api_key(key: ApiKey) -> bool:
    """Expire a key now; return False if it had already expired. Its tasks still belong to it."""
    live = ApiKey.objects.filter(Q(expiry__isnull=True) | Q(expiry__gt=Now()), pk=key.pk)
    return bool(live.update(expiry=Now()))


def touch_api_key(key: ApiKey) -> None:
    """Record that the key was used, at most once per TOUCH_INTERVAL_SECONDS."""
    lately = timedelta(seconds=TOUCH_INTERVAL_SECONDS)
    if key.last_used_at is not None and timezone.now() - key.last_used_at < lately:
        return
    before = Now() - lately
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=before)
    ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=Now())


def get_key_principal(key: ApiKey) -> Principal:
    """Return the principal of a key; the settings provide the limits that the key doesn't set."""
    return Principal(
        key_id=key.pk,
        scopes=frozenset(key.scopes),
        limits=Limits(
            rate_per_minute=_value_or_default(key.rate_per_minute, settings.RATE_LIMIT_PER_MINUTE),
            max_queued=_value_or_default(key.max_queued, settings.MAX_QUEUED_PER_KEY),
        ),
        webhook=_get_webhook(key),
    )


def _get_webhook(key: ApiKey) -> Webhook | None:
    if not key.webhook_url:
        return None
    return Webhook(url=key.webhook_url, events=tuple(key.webhook_events or WebhookEvent.values))


def _value_or_default(own: int | None, default: int | None) -> int | None:
    return default if own is None else own
