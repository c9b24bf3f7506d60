"""Webhook signatures according to Standard Webhooks (standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac

_PREFIX = "whsec_"


def build_signature_headers(secret: str, identifier: str, timestamp: int, content: bytes) -> dict[str, str]:
    """Return the headers that prove the origin of the content; the timestamp is in seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    digest = hmac.digest(key, f"{identifier}.{timestamp}.".encode() + content, hashlib.sha256)
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
