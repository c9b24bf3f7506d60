"""Limit of the requests per minute that a key may make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from tasks_app.access import rate_limit
from tasks_app.api.http.authentication import get_principal
from tasks_app.errors import QuotaExceededError

if TYPE_CHECKING:
    from rest_framework.views import APIView  # imports this module through the settings

REQUESTS_PER_MINUTE = "requests_per_minute"


class KeyThrottle(BaseThrottle):
    """Throttle that enforces a key's rate limit; callers without a key are not limited."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Return True.

        Raises:
            QuotaExceededError: the key has exceeded its rate.
        """
        who = get_principal(request)
        most = who.limits.rate_per_minute
        if who.key_id is None or most is None:
            return True
        left = rate_limit.consume(f"key:{who.key_id}", most)
        if left is not None:
            raise QuotaExceededError(REQUESTS_PER_MINUTE, most, retry_after=left)
        return True
