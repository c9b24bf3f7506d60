"""What a client accepts, where there is only one form to give."""

from __future__ import annotations

from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request


class IgnoreAcceptNegotiation(DefaultContentNegotiation):
    """Answers whatever the client says to accept: a picture and a stream have one form."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        """Return the first renderer, which errors are told in."""
        return renderers[0], renderers[0].media_type
