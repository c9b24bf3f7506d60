"""Error reports to Sentry, if SENTRY_DSN is set and the extra `sentry` is installed, without any user content."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from project.log_config import redact_secrets

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint


def init_sentry(dsn: str, release: str) -> None:
    """Report errors from now on: unhandled errors of views, and everything logged as an error.

    Without the package nothing is reported, and a system check fails.

    Raises:
        ImproperlyConfigured: the DSN is invalid.
    """
    if find_spec("sentry_sdk") is None:
        return
    import sentry_sdk
    from sentry_sdk.integrations.django import DjangoIntegration
    from sentry_sdk.utils import BadDsn

    try:
        sentry_sdk.init(
            dsn=dsn,
            release=release,
            # Auto-enabled integrations would import other installed packages, which this project doesn't need.
            auto_enabling_integrations=False,
            integrations=[DjangoIntegration()],
            auto_session_tracking=False,
            # Prompts occur in bodies, in the variables of frames and possibly in breadcrumbs. Other personal data is
            # off by default (`send_default_pii`, whose successor differs by version).
            max_request_body_size="never",
            include_local_variables=False,
            max_breadcrumbs=0,
            before_send=_clean_event,
        )
    except BadDsn as error:
        raise ImproperlyConfigured(f"SENTRY_DSN: {error}") from None


def _clean_event(event: Event, hint: Hint) -> Event:
    if "request" in event:
        event["request"] = {name: event["request"][name] for name in ("method", "url") if name in event["request"]}
    cleaned: Event = _redact_value(event)
    return cleaned


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact_secrets(value)
    if isinstance(value, dict):
        return {key: _redact_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value(inner) for inner in value]
    return value
