"""Types for clients that follow tasks: queue positions and live events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class QueuePosition:
    """Position of a queued task, counted from 1, and whether the queue or its model is paused."""

    position: int
    is_paused: bool


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of a task in Redis: `status`, `progress` or `preview`.

    `entry` is its id in the task's stream; a preview has none, since it is not in the stream.
    """

    task_id: UUID
    name: str
    data: Mapping[str, Any]
    entry: str = ""


@dataclass(frozen=True, kw_only=True)
class StreamSlice:
    """A task's data in Redis at one moment: newest event, events after a given entry, latest preview."""

    newest: Event | None = None
    since: tuple[Event, ...] = ()
    preview: Event | None = None
