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

from tasks_app.contracts import Caller, Limits, Webhook
from tasks_app.models import ApiKey, Scope, WebhookEvent

# What a key may do unless somebody says otherwise.
USUAL = [Scope.READ, Scope.SUBMIT, Scope.MODELS]
# Said at most so often, since it is a write.
USE_NOTED_SECONDS = 60


def create(
    *, user: User, name: str, scopes: Iterable[Scope], expires_in: timedelta | None = None, **limits: Any
) -> tuple[ApiKey, str]:
    """Make a key and return it with the secret that nobody can read again; `limits` are fields of the row."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    fields = {"name": name, "scopes": list(scopes), "webhook_secret": secret, **limits}
    key, token = ApiKey.objects.create(user, expires_in, **fields)
    return key, str(token)


def revoke(key: ApiKey) -> bool:
    """End a key now; False when it had ended before. Its tasks stay its own."""
    live = ApiKey.objects.filter(Q(expiry__isnull=True) | Q(expiry__gt=Now()), pk=key.pk)
    return bool(live.update(expiry=Now()))


def note_use(key: ApiKey) -> None:
    """Write when the key was last used, unless that was just now."""
    lately = timedelta(seconds=USE_NOTED_SECONDS)
    if key.last_used_at is not None and timezone.now() - key.last_used_at < lately:
        return
    before = Now() - lately
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=before)
    ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=Now())


def caller(key: ApiKey) -> Caller:
    """Return what a key may do; what it doesn't limit itself is limited by the settings."""
    return Caller(
        key_id=key.pk,
        scopes=frozenset(key.scopes),
        limits=Limits(
            rate_per_minute=_first(key.rate_per_minute, settings.RATE_PER_MINUTE),
            max_queued=_first(key.max_queued, settings.MAX_QUEUED_PER_KEY),
        ),
        webhook=_webhook(key),
    )


def _webhook(key: ApiKey) -> Webhook | None:
    if not key.webhook_url:
        return None
    return Webhook(url=key.webhook_url, events=tuple(key.webhook_events or WebhookEvent.values))


def _first(own: int | None, default: int | None) -> int | None:
    return default if own is None else own
