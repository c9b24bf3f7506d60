"""One stream of server-sent events from its first byte to its last.

What Redis tells and what the rows say may come twice, late or out of order: an `Account` tells of each task what is
news. A task's end is always told from its row.
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

from tasks_app.api.live.hub import Notice, hub
from tasks_app.api.live.states import DATABASE_AWAY, State, reading, states
from tasks_app.api.serializers import pictured, represent
from tasks_app.contracts import Event, Trail
from tasks_app.events import progress
from tasks_app.models import TERMINAL, Status, Task

RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": still here\n\n"
# Within an attempt a task runs, is queued again or ends; the next attempt's come after that.
_RANKS = {Status.RUNNING: 1, Status.QUEUED: 2, **dict.fromkeys(TERMINAL, 3)}
_NOWHERE = (-1, -1)
_json = JSONRenderer().render


def frame(name: str, task_id: UUID | str, data: Mapping[str, Any], *, entry: str = "") -> bytes:
    """Return one event as it goes over the wire."""
    head = f"id: {entry}\n" if entry else ""
    return f"{head}event: {name}\ndata: ".encode() + _json({"task": str(task_id), **data}) + b"\n\n"


def order(entry: str) -> tuple[int, int]:
    """Return what the ids of a stream's entries are compared by."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence)


class Account:
    """What one stream has told of one task; its methods return the frames of what is news."""

    def __init__(self, task_id: UUID) -> None:
        self._id = task_id
        self._entry = _NOWHERE
        self._covered = ""
        self._stage = _NOWHERE
        self._place = _NOWHERE
        self._progress: Mapping[str, Any] = {}
        self._waiting: Mapping[str, Any] | None = None
        self._preview = _NOWHERE

    def of_event(self, event: Event) -> list[bytes]:
        """Tell what Redis told; a status that does not say of which attempt is left to the row."""
        if event.entry and order(event.entry) <= self._entry:
            return []
        if event.entry:
            self._entry, self._covered = order(event.entry), ""
        if event.name == "progress":
            return self._of_progress(event.data, event.entry)
        if event.name == "preview":
            return self._of_preview(event)
        if "attempt" in event.data:
            return self._of_status(event.data["status"], event.data["attempt"], event.entry)
        self._covered = event.entry
        return []

    def resumes(self, event: Event) -> None:
        """Take note that the client has seen what came before this event."""
        if event.name == "progress":
            self._stage = (event.data["attempt"], _RANKS[Status.RUNNING])

    def covers(self, entry: str) -> None:
        """Take note that what is told next contains all events up to this one."""
        self._entry, self._covered = order(entry), entry

    def of_state(self, state: State) -> list[bytes]:
        """Tell what the row says of a task that has not ended."""
        entry, self._covered = self._covered, ""
        if state.progress is not None:
            return self._of_progress(state.progress, entry, ahead_only=True)
        waiting = {"queue_position": state.queue_position, "paused": state.paused}
        return self._of_status(Status.QUEUED, state.attempt, entry, waiting=waiting)

    def of_end(self, task: Mapping[str, Any]) -> list[bytes]:
        """Tell how a task ended, given its JSON."""
        images = [frame("image", self._id, image) for image in task["images"]]
        status = self._of_status(task["status"], task["attempt"], self._covered)
        return [*status, *images, frame("done", self._id, task)]

    def _of_status(
        self, status: str, attempt: int, entry: str = "", *, waiting: Mapping[str, Any] | None = None
    ) -> list[bytes]:
        stage = (attempt, _RANKS[Status(status)])
        moved = waiting is not None and waiting != self._waiting
        if stage < self._stage or (stage == self._stage and not moved):
            return []
        if stage > self._stage:
            self._stage, self._place = stage, _NOWHERE
        self._waiting = waiting
        return [frame("status", self._id, {"status": status, "attempt": attempt, **(waiting or {})}, entry=entry)]

    def _of_progress(self, data: Mapping[str, Any], entry: str, *, ahead_only: bool = False) -> list[bytes]:
        # The status comes first, if nobody told it.
        frames = self._of_status(Status.RUNNING, data["attempt"], entry)
        place = progress.place(data)
        behind = place < self._place or (place == self._place and (ahead_only or data == self._progress))
        if behind or not self._runs(data["attempt"]):
            return frames
        self._place, self._progress = place, data
        return [*frames, frame("progress", self._id, data, entry=entry)]

    def _of_preview(self, event: Event) -> list[bytes]:
        frames = self._of_status(Status.RUNNING, event.data["attempt"])
        seen = event.data["attempt"], event.data["step"]
        if seen <= self._preview or not self._runs(event.data["attempt"]):
            return frames
        self._preview = seen
        return [*frames, frame("preview", self._id, event.data)]

    def _runs(self, attempt: int) -> bool:
        return self._stage == (attempt, _RANKS[Status.RUNNING])


class Stream:
    """What one client sees of its tasks."""

    def __init__(self, request: Request, task_ids: Sequence[UUID], *, after: str) -> None:
        self._request = request
        self._after = after
        self._open = {task_id: Account(task_id) for task_id in task_ids}
        self._ended: set[UUID] = set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield everything until each task has ended; nothing when the database is away at the start."""
        # From the first line on nothing is missed, so what is read after it is complete.
        async with hub.watch(self._open) as watcher:
            try:
                yield RETRY + await self._opening()
            except DATABASE_AWAY:
                return
            beat_at = _next_beat()
            while self._open and not watcher.closed:
                notices = await watcher.take(beat_at - time.monotonic())
                told = b"".join([*self._news(notices), *await self._endings()])
                if told or time.monotonic() >= beat_at:
                    yield told or HEARTBEAT
                    beat_at = _next_beat()

    async def _opening(self) -> bytes:
        found, trails = await reading(_states_and_trails, list(self._open), self._after)
        frames: list[bytes] = []
        for task_id, state in found.items():
            frames += self._of_trail(trails.get(task_id, Trail()), state)
        return b"".join([*frames, *await self._endings()])

    def _of_trail(self, trail: Trail, state: State) -> list[bytes]:
        """Tell what happened since, or else how things stand."""
        account = self._open[state.task_id]
        frames: list[bytes] = []
        if self._after and trail.newest:
            account.resumes(trail.since[0] if trail.since else trail.newest)
            for event in trail.since:
                frames += account.of_event(event)
            account.of_event(trail.newest)  # which the client has seen: only what the row adds to it is news
        elif trail.newest:
            account.covers(trail.newest.entry)
        frames += self._of_notice(state)
        if trail.preview and state.status == Status.RUNNING:
            frames += account.of_event(trail.preview)
        return frames

    def _news(self, notices: Iterable[Notice]) -> list[bytes]:
        return [frame for notice in notices if notice.task_id in self._open for frame in self._of_notice(notice)]

    def _of_notice(self, notice: Notice) -> list[bytes]:
        status = notice.status if isinstance(notice, State) else notice.data.get("status")
        if status in TERMINAL:
            self._ended.add(notice.task_id)
        if isinstance(notice, Event):
            return self._open[notice.task_id].of_event(notice)
        if status is None:
            del self._open[notice.task_id]
            return []
        return [] if status in TERMINAL else self._open[notice.task_id].of_state(notice)

    async def _endings(self) -> list[bytes]:
        """Tell of those that have ended, as soon as the database can be asked: the hub repeats that they have."""
        if not self._ended:
            return []
        try:
            tasks = await reading(_represented, self._request, self._ended)
        except DATABASE_AWAY:
            return []
        self._ended = set()
        ended = [(UUID(task["id"]), task) for task in tasks if task["status"] in TERMINAL]
        return [frame for task_id, task in ended for frame in self._open.pop(task_id).of_end(task)]


def _next_beat() -> float:
    # Not all streams at the same moment, though all may have been opened at one.
    return time.monotonic() + settings.STREAM_HEARTBEAT_SECONDS * random.uniform(0.5, 1)  # noqa: S311


def _states_and_trails(task_ids: Sequence[UUID], after: str) -> tuple[dict[UUID, State], dict[UUID, Trail]]:
    # Redis first: what it says happened is in the rows by then. Equal ids of several streams mean different events.
    trails = progress.trails(task_ids, after=after, inclusive=len(task_ids) > 1)
    return states(task_ids), trails


def _represented(request: Request, task_ids: Iterable[UUID]) -> list[dict[str, Any]]:
    return represent(request, list(pictured(Task.objects.filter(pk__in=task_ids))))
