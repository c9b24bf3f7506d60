"""Keys of the API: made, revoked, and what each is held to. Hashing and lookup are knox's."""

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

# What a key may do unless somebody says otherwise.
DEFAULT_SCOPES = [Scope.READ, Scope.SUBMIT, Scope.MODELS]
# Said at most so often, since it is a write.
TOUCH_INTERVAL_SECONDS = 60


def create_api_key(
    *, user: User, name: str, scopes: Iterable[Scope], expires_in: timedelta | None = None, **limits: Any
) -> tuple[ApiKey, str]:
    """Make a key and return it with the secret that nobody can read again; `limits` are fields of the row."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    fields = {"name": name, "scopes": list(scopes), "webhook_secret": secret, **limits}
    key, token = ApiKey.objects.create(user, expires_in, **fields)
    return key, str(token)


def revoke_api_key(key: ApiKey) -> bool:
    """End a key now; False when it had ended before. Its tasks stay its own."""
    live = ApiKey.objects.filter(Q(expiry__isnull=True) | Q(expiry__gt=Now()), pk=key.pk)
    return bool(live.update(expiry=Now()))


def touch_api_key(key: ApiKey) -> None:
    """Write when the key was last used, unless that was just now."""
    lately = timedelta(seconds=TOUCH_INTERVAL_SECONDS)
    if key.last_used_at is not None and timezone.now() - key.last_used_at < lately:
        return
    before = Now() - lately
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=before)
    ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=Now())


def get_key_principal(key: ApiKey) -> Principal:
    """Return what a key may do; what it doesn't limit itself is limited by the settings."""
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
