"""What watchers of tasks are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class QueuePosition:
    """Where a queued task stands: its place in line, from 1, and whether the queue or its model is paused."""

    position: int
    is_paused: bool


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that Redis tells of a task: `status`, `progress` or `preview`.

    `entry` is its id in the task's stream, which a preview isn't in.
    """

    task_id: UUID
    name: str
    data: Mapping[str, Any]
    entry: str = ""


@dataclass(frozen=True, kw_only=True)
class StreamSlice:
    """What Redis has of a task at one moment: the newest event, those since the one asked for, the latest preview."""

    newest: Event | None = None
    since: tuple[Event, ...] = ()
    preview: Event | None = None
