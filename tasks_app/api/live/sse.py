"""Server-sent events: `GET /task/{id}/events`, and `GET /events?task=ID&task=ID` for many tasks in one stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks_app.api.http.authentication import get_principal
from tasks_app.api.http.negotiation import IgnoreAcceptNegotiation
from tasks_app.api.live.states import find_visible_ids, read_blocking
from tasks_app.api.live.stream import EventStream
from tasks_app.api.openapi.describe import build_headers, build_parameters, component_ref

MAX_TASKS = 200
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
DESCRIPTION = """
Server-sent events: `status`, `progress`, `preview` and `image`, and `done` at the end of a task. Their data are JSON
with the task's id as `task`; `done` has the task, `image` one of its images. `Last-Event-ID` continues a stream that
was interrupted.
""".strip()
STREAM = OpenApiResponse(component_ref("schemas", "Event"), "The stream.")
# Format of an entry id of a Redis stream.
_ENTRY_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")


class TaskEventsView(APIView):
    """`GET /task/{id}/events`."""

    content_negotiation_class = IgnoreAcceptNegotiation

    @extend_schema(
        operation_id="streamTask",
        tags=["events"],
        description=DESCRIPTION,
        parameters=[*build_parameters("Last-Event-ID"), *build_headers("Cache-Control", status=200)],
        responses={(200, "text/event-stream"): STREAM},
        auth=["signature"],
    )
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """Stream the events of a task until it has ended."""
        return _stream_response(request, [UUID(task_id)])


class EventsView(APIView):
    """`GET /events?task=ID&task=ID`."""

    content_negotiation_class = IgnoreAcceptNegotiation

    @extend_schema(
        operation_id="streamTasks",
        tags=["events"],
        description=DESCRIPTION,
        parameters=[*build_parameters("task", "Last-Event-ID"), *build_headers("Cache-Control", status=200)],
        responses={(200, "text/event-stream"): STREAM, 404: None},
        auth=["signature"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Stream the events of these tasks until all have ended."""
        return _stream_response(request, _parse_task_ids(request.query_params.getlist("task")))


def _parse_task_ids(texts: Sequence[str]) -> list[UUID]:
    if not 1 <= len(texts) <= MAX_TASKS:
        raise ValidationError({"task": [f"Must be present 1 to {MAX_TASKS} times."]})
    try:
        return list(dict.fromkeys(UUID(text) for text in texts))
    except ValueError:
        raise ValidationError({"task": ["Must be the id of a task."]}) from None


def _stream_response(request: Request, task_ids: Sequence[UUID]) -> HttpResponseBase:
    found = read_blocking(find_visible_ids, task_ids, get_principal(request))
    if unknown := [str(task_id) for task_id in task_ids if task_id not in found]:
        raise NotFound(f"Not found: task {', '.join(unknown)}.")
    if request.method == "HEAD":
        return HttpResponse(headers=HEADERS)
    last = request.headers.get("Last-Event-ID", "")
    stream = EventStream(request, task_ids, after=last if _ENTRY_ID.fullmatch(last) else "")
    return StreamingHttpResponse(stream.iter_frames(), headers=HEADERS)
