"""`Prefer: wait=N`: a response deferred until its task has ended, without a thread or database connection."""

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

from tasks_app.api.live.hub import StreamMessage, hub
from tasks_app.api.live.states import DATABASE_AWAY, TaskState, read_async
from tasks_app.api.serializers import get_annotated_task
from tasks_app.models import TERMINAL, Task

_PREFERENCE = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?:;.*)?")


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Wait of a deferred response: until a task ends, but at most `seconds`. Then `render` builds the response again.

    `fallback` is sent instead if the task can't be read by then; without it the response stays unchanged.
    """

    task_id: UUID
    seconds: float
    render: Callable[[Task], Response]
    fallback: Response | None = None


def parse_prefer_wait(request: Request) -> int | None:
    """Return the client's preferred wait in seconds, at most MAX_WAIT_SECONDS; None if it sends none (RFC 7240)."""
    preferences = request.headers.get("Prefer", "").lower().split(",")
    found = [match for preference in preferences if (match := _PREFERENCE.fullmatch(preference))]
    return int(min(int(found[0][1]), settings.MAX_WAIT_SECONDS)) if found else None


def defer_response(answer: Response, wait: Wait) -> Response:
    """Mark the response to be sent only after its wait."""
    answer.wait = wait  # type: ignore[attr-defined]
    return answer


def is_deferred(answer: HttpResponseBase) -> bool:
    """Return whether the response is deferred."""
    return hasattr(answer, "wait")


async def resolve_response(answer: HttpResponseBase) -> None:
    """Wait, then update the response."""
    assert isinstance(answer, Response)
    wait: Wait = answer.wait  # type: ignore[attr-defined]
    try:
        await _wait_for_end(wait)
        await read_async(_refresh_response, answer, wait)
    except DATABASE_AWAY:
        _replace_content(answer, wait.fallback)


async def _wait_for_end(wait: Wait) -> None:
    give_up = time.monotonic() + wait.seconds
    # Subscribe before reading the row, so that the task's end is not missed in between.
    async with hub.subscribe_tasks([wait.task_id]) as watcher:
        ended = await read_async(_has_ended, wait.task_id)
        while not ended and not watcher.closed and time.monotonic() < give_up:
            ended = any(map(_is_end_message, await watcher.take_messages(give_up - time.monotonic())))


def _has_ended(task_id: UUID) -> bool:
    """Return whether a task has ended or no longer exists."""
    return not Task.objects.filter(pk=task_id).exclude(status__in=TERMINAL).exists()


def _is_end_message(notice: StreamMessage) -> bool:
    if isinstance(notice, TaskState):
        return notice.status is None or notice.status in TERMINAL
    return notice.data.get("status") in TERMINAL


def _refresh_response(answer: Response, wait: Wait) -> None:
    """Build the response again and render its body in this thread, because it may be large."""
    task = get_annotated_task(wait.task_id)
    _replace_content(answer, wait.fallback if task is None else wait.render(task))


def _replace_content(answer: Response, newer: Response | None) -> None:
    if newer is not None:
        answer.data, answer.status_code = newer.data, newer.status_code
        answer.content = answer.rendered_content
        answer["Content-Length"] = str(len(answer.content))
