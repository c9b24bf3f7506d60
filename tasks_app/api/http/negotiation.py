"""Content negotiation for endpoints with a single format."""

from __future__ import annotations

from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request


class IgnoreAcceptNegotiation(DefaultContentNegotiation):
    """Negotiation that ignores the `Accept` header, because an image or a stream has a single format."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        """Return the first renderer, which renders errors."""
        return renderers[0], renderers[0].media_type
