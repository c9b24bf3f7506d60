"""What crosses the layers: frozen dataclasses, and the two protocols between the supervisor and a handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from PIL.Image import Image

Phase = Literal["loading", "denoising", "decoding", "saving"]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What a handler is asked for. Width and height are in pixels; None means the model's own."""

    model_id: str
    revision: str
    prompt: str
    negative_prompt: str
    steps: int
    guidance_scale: float
    seed: int
    width: int | None
    height: int | None
    num_images: int


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One picture. `flagged`: the model's safety checker replaced it; `black`: nothing was drawn."""

    seed: int
    image: Image
    flagged: bool = False
    black: bool = False


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """What a handler gives back. `revision` is the one that was loaded; timings are in seconds."""

    images: tuple[GeneratedImage, ...]
    revision: str
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Bytes are those of a download and known only in the phase `loading`."""

    phase: Phase
    step: int = 0
    total_steps: int
    bytes_done: int | None = None
    bytes_total: int | None = None


def percent(step: int, total_steps: int) -> int:
    """Return the share of steps done, 0…100."""
    return 100 * step // total_steps if total_steps else 0


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
class Trail:
    """What Redis has of a task at one moment: the newest event, those since the one asked for, the latest preview."""

    newest: Event | None = None
    since: tuple[Event, ...] = ()
    preview: Event | None = None


class Report(Protocol):
    """Called by a handler at every step.

    Raises:
        RunStopped: the run is to end; the handler lets it pass.
    """

    def __call__(self, progress: Progress, /) -> None:
        """Take one report."""


class Handler(Protocol):
    """A provider's engine. `run` is called from one thread at a time."""

    def run(self, request: GenerationRequest, report: Report) -> GenerationResult:
        """Generate the pictures of one request.

        Raises:
            TaskError: with the code that the task shall fail with.
            RunStopped: passed on from `report`.
        """

    def pull(self, model_id: str, revision: str, report: Report) -> str:
        """Fetch a model's files ahead of time and return the revision.

        Raises:
            ModelUnavailable: they can't be had.
        """


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to write to a running task: lost as soon as the row's attempt is another."""

    task_id: UUID
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a heartbeat learned about its task."""

    cancel_requested: bool
    overdue: bool


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """A picture that lies in the storage. Sizes are in pixels."""

    index: int
    name: str
    content_type: str
    seed: int
    width: int
    height: int
    sha256: str
    flagged: bool
    black: bool


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A task to be: everything validated and resolved."""

    task_type: str
    provider: str
    requested_model_id: str
    model_id: str
    revision: str
    params: Mapping[str, Any]
    seed: int
    priority: int
