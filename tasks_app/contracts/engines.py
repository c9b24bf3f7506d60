"""The two protocols between the supervisor and a handler, and what an engine tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks_app.contracts.generation import GenerationRequest, GenerationResult, LoadOptions, Progress


class Report(Protocol):
    """Called by a handler at every step.

    Raises:
        RunStopped: the run is to end; the handler lets it pass.
    """

    def __call__(self, progress: Progress, /) -> None:
        """Take one report."""


@dataclass(frozen=True, kw_only=True)
class WarmModel:
    """A model that is loaded and ready to run."""

    model_id: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """How often a process loaded a model, and how often it found it loaded."""

    model_id: str
    loads: int
    hits: int


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """What an engine runs on and holds.

    Memory is in bytes: the accelerator's own; on a CPU what this process uses of the host's.
    """

    device: str
    device_name: str
    memory_used: int
    memory_total: int
    warm: tuple[WarmModel, ...]
    uses: tuple[ModelUse, ...] = ()


class Handler(Protocol):
    """A provider's engine. All but `held` and `state` is called from one thread at a time."""

    def run(self, requests: Sequence[GenerationRequest], report: Report) -> list[GenerationResult]:
        """Generate the pictures of some requests in one call, which differ in prompt, negative prompt and seed only.

        Raises:
            TaskError: with the code that each task shall fail with.
            RunStopped: passed on from `report`.
        """

    def pull(self, model_id: str, revision: str, report: Report) -> str:
        """Fetch a model's files ahead of time and return the revision.

        Raises:
            ModelUnavailable: they can't be had.
        """

    def preload(self, model_id: str, revision: str, options: LoadOptions) -> None:
        """Load a model ahead of the first task that wants it.

        Raises:
            TaskError: with the reason why it can't be loaded.
        """

    def unload(self, model_id: str) -> None:
        """Give up the memory that a model takes."""

    def unload_idle(self, seconds: float) -> None:
        """Give up the memory of models that nobody has used for so long."""

    def held(self) -> tuple[WarmModel, ...]:
        """Say which models are loaded, without asking the device; may be called at any time from any thread."""

    def state(self) -> EngineState:
        """Say what the engine runs on and holds; may be called at any time from any thread."""
