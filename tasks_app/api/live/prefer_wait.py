"""`Prefer: wait=N`: an answer that is held until its task has ended, by neither a thread nor a database connection."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.live.hub import Notice, hub
from tasks_app.api.live.states import DATABASE_AWAY, State, reading
from tasks_app.api.serializers import pictured_one
from tasks_app.models import TERMINAL, Task

_PREFERENCE = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?:;.*)?")


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What an answer is held for: a task's end, so many seconds at most. `renew` then makes the answer again.

    `lost` takes its place where the task can't be read by then; without it the answer stays as it is.
    """

    task_id: UUID
    seconds: float
    renew: Callable[[Task], Response]
    lost: Response | None = None


def preferred(request: Request) -> int | None:
    """Return for how many seconds the client would have the answer held; None when it does not say (RFC 7240)."""
    preferences = request.headers.get("Prefer", "").lower().split(",")
    found = [match for preference in preferences if (match := _PREFERENCE.fullmatch(preference))]
    return int(min(int(found[0][1]), settings.MAX_WAIT_SECONDS)) if found else None


def hold(answer: Response, wait: Wait) -> Response:
    """Let the answer be sent only once its wait is over."""
    answer.wait = wait  # type: ignore[attr-defined]
    return answer


def held(answer: HttpResponseBase) -> bool:
    """Return whether the answer waits for something."""
    return hasattr(answer, "wait")


async def settle(answer: HttpResponseBase) -> None:
    """Wait, then bring the answer up to date."""
    assert isinstance(answer, Response)
    wait: Wait = answer.wait  # type: ignore[attr-defined]
    try:
        await _end_of(wait)
        await reading(_renew, answer, wait)
    except DATABASE_AWAY:
        _replace(answer, wait.lost)


async def _end_of(wait: Wait) -> None:
    give_up = time.monotonic() + wait.seconds
    # What happens after the watch has begun is told; what happened before is read.
    async with hub.watch([wait.task_id]) as watcher:
        ended = await reading(_has_ended, wait.task_id)
        while not ended and not watcher.closed and time.monotonic() < give_up:
            ended = any(map(_is_end, await watcher.take(give_up - time.monotonic())))


def _has_ended(task_id: UUID) -> bool:
    """Return whether a task has ended, or is gone."""
    return not Task.objects.filter(pk=task_id).exclude(status__in=TERMINAL).exists()


def _is_end(notice: Notice) -> bool:
    if isinstance(notice, State):
        return notice.status is None or notice.status in TERMINAL
    return notice.data.get("status") in TERMINAL


def _renew(answer: Response, wait: Wait) -> None:
    """Make the answer anew; also its bytes, which may be many."""
    task = pictured_one(wait.task_id)
    _replace(answer, wait.lost if task is None else wait.renew(task))


def _replace(answer: Response, newer: Response | None) -> None:
    if newer is not None:
        answer.data, answer.status_code = newer.data, newer.status_code
        answer.content = answer.rendered_content
        answer["Content-Length"] = str(len(answer.content))
