"""What a worker claims with, what it gets, and what its heartbeat learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from tasks_app.contracts.images import Reproduction, StoredImage
from tasks_app.engine.types import WarmModel


@dataclass(frozen=True, kw_only=True)
class WorkerCapacity:
    """What a worker holds when it claims, and for how many seconds it has held just that.

    `fits` is by model how many pictures the worker makes in one call, where it learned that more are too many.
    """

    models: frozenset[WarmModel] = frozenset()
    unchanged_seconds: float = 0.0
    max_batch_sizes: Mapping[str, int] = field(default_factory=dict)


NO_MODELS = WorkerCapacity()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to write to a running task: lost as soon as the row's attempt is another."""

    task_id: UUID
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Success:
    """A run that made its pictures, with what is written down of it.

    `size` is the pictures' real width and height in pixels, which the parameters may have left to the model; timings
    are in seconds by stage; `reproduction` compares the pictures with those of the task that it reproduces.
    """

    claim: Claim
    images: tuple[StoredImage, ...]
    revision: str
    timings: Mapping[str, float] = field(default_factory=dict)
    size: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    reproduction: Reproduction | None = None


@dataclass(frozen=True, kw_only=True)
class HeartbeatResult:
    """What a heartbeat learned about its task."""

    cancel_requested: bool
    overdue: bool
