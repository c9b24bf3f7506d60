"""Types for claiming tasks, for their success and for heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from tasks_app.contracts.images import Reproduction, StoredImage
from tasks_app.engine.types import WarmModel


@dataclass(frozen=True, kw_only=True)
class WorkerCapacity:
    """The models that a worker has loaded when it claims, and for how many seconds these have not changed.

    `max_batch_sizes` is the number of images per call by model, for models that have run out of memory with more.
    """

    models: frozenset[WarmModel] = frozenset()
    unchanged_seconds: float = 0.0
    max_batch_sizes: Mapping[str, int] = field(default_factory=dict)


NO_MODELS = WorkerCapacity()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to write to a running task; it is lost as soon as the row has another attempt."""

    task_id: UUID
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Success:
    """A run that has generated its images, with the values to write to its row.

    `size` is the images' actual width and height in pixels, which the parameters may leave to the model; `timings` are
    in seconds by stage; `reproduction` compares the images with those of the task that this one reproduces.
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
    """State of a task as read by a heartbeat."""

    cancel_requested: bool
    overdue: bool
