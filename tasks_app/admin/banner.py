"""Banner at the top of every admin page while the queue is paused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.http import HttpRequest

from tasks_app.admin.actions.pause_actions import build_pause_button
from tasks_app.models import Pause
from tasks_app.queue import pauses


def queue_pause_banner(request: HttpRequest) -> dict[str, Callable[[], dict[str, Any] | None]]:
    """Return a context that looks up the pause only if a template uses it, as pages outside the admin don't."""
    return {"queue_pause": lambda: _build_banner(request)}


def _build_banner(request: HttpRequest) -> dict[str, Any] | None:
    pause = pauses.get_queue_pause()
    if pause is None:
        return None
    button = build_pause_button(request, Pause.Scope.QUEUE, paused=True)
    return {"since": pause.since, "ago": naturaltime(pause.since), "by": pause.by, "resume": button}
