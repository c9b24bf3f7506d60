"""`Idempotency-Key` header, which identifies repeats of the same request."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from tasks_app.contracts import IdempotentRequest

HEADER = "Idempotency-Key"
_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")


def parse_idempotency_key(request: Request, asked: Any) -> IdempotentRequest | None:
    """Return the request's idempotency key with the hash of `asked`, its content as JSON; None if it sends no key.

    Raises:
        ValidationError: the key is malformed.
    """
    name = request.headers.get(HEADER)
    if name is None:
        return None
    if not _KEY_PATTERN.fullmatch(name):
        raise ValidationError({HEADER: ["Must be 1 to 255 printable ASCII characters without spaces."]})
    # Requests that differ only in key order or whitespace count as the same.
    body = json.dumps(asked, sort_keys=True)
    return IdempotentRequest(name=name, body_sha256=hashlib.sha256(body.encode()).hexdigest())
