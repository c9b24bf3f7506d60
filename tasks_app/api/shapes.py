"""The JSON shapes that more than one module answers with."""

from __future__ import annotations

from typing import Any


def error_body(code: str, message: str, *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    """Return the JSON of an error."""
    return {"error": {"code": code, "message": message, "retryable": retryable, **more}}
