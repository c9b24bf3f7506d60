"""One stream of server-sent events, from its first byte to its last.

Events from Redis and states from the rows may arrive twice, late or out of order: a `TaskStreamState` per task selects
those that are new. The end of a task is always reported from its row.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from tasks_app import answers
from tasks_app.api.live.hub import StreamMessage, hub
from tasks_app.api.live.states import DATABASE_AWAY, TaskState, get_task_states, read_async
from tasks_app.api.serializers import annotate_images, serialize_tasks
from tasks_app.contracts import Event, StreamSlice
from tasks_app.events import progress
from tasks_app.models import TERMINAL, Status, Task

RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": still here\n\n"
# Within an attempt a task runs, then is queued again or ends; any status of the next attempt comes later.
_STATUS_RANKS = {Status.RUNNING: 1, Status.QUEUED: 2, **dict.fromkeys(TERMINAL, 3)}
_NOWHERE = (-1, -1)
_render_json = JSONRenderer().render


def encode_event(name: str, task_id: UUID | str, data: Mapping[str, Any], *, entry: str = "") -> bytes:
    """Return one event in the wire format of server-sent events."""
    head = f"id: {entry}\n" if entry else ""
    return f"{head}event: {name}\ndata: ".encode() + _render_json({"task": str(task_id), **data}) + b"\n\n"


def parse_entry_id(entry: str) -> tuple[int, int]:
    """Return the milliseconds and sequence number of an entry id, by which ids are compared."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence)


class TaskStreamState:
    """State of one task as sent to one stream; its methods return the frames that are new to the client."""

    def __init__(self, task_id: UUID) -> None:
        self._task_id = task_id
        self._last_entry = _NOWHERE
        self._covered_entry = ""
        self._stage = _NOWHERE
        self._last_rank = _NOWHERE
        self._last_progress: Mapping[str, Any] = {}
        self._queue_state: answers.QueueState | None = None
        self._last_preview = _NOWHERE

    def on_event(self, event: Event) -> list[bytes]:
        """Return the frames of an event from Redis; a status without an attempt is left to the row."""
        if event.entry and parse_entry_id(event.entry) <= self._last_entry:
            return []
        if event.entry:
            self._last_entry, self._covered_entry = parse_entry_id(event.entry), ""
        if event.name == "progress":
            return self._progress_frames(event.data, event.entry)
        if event.name == "preview":
            return self._preview_frames(event)
        if "attempt" in event.data:
            return self._status_frames(event.data["status"], event.data["attempt"], event.entry)
        self._covered_entry = event.entry
        return []

    def resume_from(self, event: Event) -> None:
        """Record that the client has seen everything before this event."""
        if event.name == "progress":
            self._stage = (event.data["attempt"], _STATUS_RANKS[Status.RUNNING])

    def skip_to(self, entry: str) -> None:
        """Record that the next frame covers all events up to this entry."""
        self._last_entry, self._covered_entry = parse_entry_id(entry), entry

    def on_state(self, state: TaskState) -> list[bytes]:
        """Return the frames of a row's state, for a task that has not ended."""
        entry, self._covered_entry = self._covered_entry, ""
        if state.progress is not None:
            return self._progress_frames(state.progress, entry, ahead_only=True)
        waiting: answers.QueueState = {"queue_position": state.queue_position, "paused": state.paused}
        return self._status_frames(Status.QUEUED, state.attempt, entry, waiting=waiting)

    def on_end(self, task: answers.Task) -> list[bytes]:
        """Return the frames of a task's end, given its JSON."""
        images = [encode_event("image", self._task_id, image) for image in task["images"]]
        status = self._status_frames(task["status"], task["attempt"], self._covered_entry)
        return [*status, *images, encode_event("done", self._task_id, task)]

    def _status_frames(
        self, status: str, attempt: int, entry: str = "", *, waiting: answers.QueueState | None = None
    ) -> list[bytes]:
        stage = (attempt, _STATUS_RANKS[Status(status)])
        moved = waiting is not None and waiting != self._queue_state
        if stage < self._stage or (stage == self._stage and not moved):
            return []
        if stage > self._stage:
            self._stage, self._last_rank = stage, _NOWHERE
        self._queue_state = waiting
        change: answers.StatusChange = {"status": status, "attempt": attempt}
        if waiting is not None:
            change = {**change, **waiting}
        return [encode_event("status", self._task_id, change, entry=entry)]

    def _progress_frames(self, data: Mapping[str, Any], entry: str, *, ahead_only: bool = False) -> list[bytes]:
        # The status comes first, if it was not sent yet.
        frames = self._status_frames(Status.RUNNING, data["attempt"], entry)
        place = progress.get_progress_rank(data)
        behind = place < self._last_rank or (place == self._last_rank and (ahead_only or data == self._last_progress))
        if behind or not self._is_running(data["attempt"]):
            return frames
        self._last_rank, self._last_progress = place, data
        return [*frames, encode_event("progress", self._task_id, data, entry=entry)]

    def _preview_frames(self, event: Event) -> list[bytes]:
        frames = self._status_frames(Status.RUNNING, event.data["attempt"])
        seen = event.data["attempt"], event.data["step"]
        if seen <= self._last_preview or not self._is_running(event.data["attempt"]):
            return frames
        self._last_preview = seen
        return [*frames, encode_event("preview", self._task_id, event.data)]

    def _is_running(self, attempt: int) -> bool:
        return self._stage == (attempt, _STATUS_RANKS[Status.RUNNING])


class EventStream:
    """Event stream of one client, for one or more tasks."""

    def __init__(self, request: Request, task_ids: Sequence[UUID], *, after: str) -> None:
        self._request = request
        self._last_event_id = after
        self._open_tasks = {task_id: TaskStreamState(task_id) for task_id in task_ids}
        self._ended_ids: set[UUID] = set()

    async def iter_frames(self) -> AsyncIterator[bytes]:
        """Yield the frames until each task has ended; none if the database is unavailable at the start."""
        # Subscribe before reading, so that no event is missed in between.
        async with hub.subscribe_tasks(self._open_tasks) as watcher:
            try:
                yield RETRY + await self._opening_frames()
            except DATABASE_AWAY:
                return
            beat_at = _next_heartbeat_at()
            while self._open_tasks and not watcher.closed:
                notices = await watcher.take_messages(beat_at - time.monotonic())
                told = b"".join([*self._new_frames(notices), *await self._end_frames()])
                if told or time.monotonic() >= beat_at:
                    yield told or HEARTBEAT
                    beat_at = _next_heartbeat_at()

    async def _opening_frames(self) -> bytes:
        found, trails = await read_async(_read_states_and_slices, list(self._open_tasks), self._last_event_id)
        frames: list[bytes] = []
        for task_id, state in found.items():
            frames += self._catch_up_frames(trails.get(task_id, StreamSlice()), state)
        return b"".join([*frames, *await self._end_frames()])

    def _catch_up_frames(self, trail: StreamSlice, state: TaskState) -> list[bytes]:
        """Return the frames of the events since `Last-Event-ID`, if any, and of the current state."""
        account = self._open_tasks[state.task_id]
        frames: list[bytes] = []
        if self._last_event_id and trail.newest:
            account.resume_from(trail.since[0] if trail.since else trail.newest)
            for event in trail.since:
                frames += account.on_event(event)
            account.on_event(trail.newest)  # the client has it: only newer data from the row follows
        elif trail.newest:
            account.skip_to(trail.newest.entry)
        frames += self._message_frames(state)
        if trail.preview and state.status == Status.RUNNING:
            frames += account.on_event(trail.preview)
        return frames

    def _new_frames(self, notices: Iterable[StreamMessage]) -> list[bytes]:
        return [
            frame for notice in notices if notice.task_id in self._open_tasks for frame in self._message_frames(notice)
        ]

    def _message_frames(self, notice: StreamMessage) -> list[bytes]:
        status = notice.status if isinstance(notice, TaskState) else notice.data.get("status")
        if status in TERMINAL:
            self._ended_ids.add(notice.task_id)
        if isinstance(notice, Event):
            return self._open_tasks[notice.task_id].on_event(notice)
        if status is None:
            del self._open_tasks[notice.task_id]
            return []
        return [] if status in TERMINAL else self._open_tasks[notice.task_id].on_state(notice)

    async def _end_frames(self) -> list[bytes]:
        """Return the frames of ended tasks; none while the database is unavailable, because the hub repeats the end."""
        if not self._ended_ids:
            return []
        try:
            tasks = await read_async(_read_serialized_tasks, self._request, self._ended_ids)
        except DATABASE_AWAY:
            return []
        self._ended_ids = set()
        ended = [(UUID(task["id"]), task) for task in tasks if task["status"] in TERMINAL]
        return [frame for task_id, task in ended for frame in self._open_tasks.pop(task_id).on_end(task)]


def _next_heartbeat_at() -> float:
    # Randomized, so that streams opened at the same moment do not all send at the same moment.
    return time.monotonic() + settings.STREAM_HEARTBEAT_SECONDS * random.uniform(0.5, 1)  # noqa: S311


def _read_states_and_slices(
    task_ids: Sequence[UUID], after: str
) -> tuple[dict[UUID, TaskState], dict[UUID, StreamSlice]]:
    # Redis first, because the rows already contain the events that it returns. Inclusive for several tasks, because
    # equal entry ids of their streams are different events.
    trails = progress.read_streams(task_ids, after=after, inclusive=len(task_ids) > 1)
    return get_task_states(task_ids), trails


def _read_serialized_tasks(request: Request, task_ids: Iterable[UUID]) -> list[answers.Task]:
    return serialize_tasks(request, list(annotate_images(Task.objects.filter(pk__in=task_ids))))
