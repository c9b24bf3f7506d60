"""The protocols between the worker and a provider's engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasks_app.engine.types import EngineState, GenerationRequest, GenerationResult, LoadOptions, Progress, WarmModel


class ProgressCallback(Protocol):
    """Called by a handler at every step.

    Raises:
        RunStopped: the run is to end; the handler lets it pass.
    """

    def __call__(self, progress: Progress, /) -> None:
        """Take one report."""


class Handler(Protocol):
    """A provider's engine. All but `held` and `state` is called from one thread at a time."""

    def run(self, requests: Sequence[GenerationRequest], report: ProgressCallback) -> list[GenerationResult]:
        """Generate the pictures of some requests in one call, which differ in prompt, negative prompt and seed only.

        Raises:
            TaskError: with the code that each task shall fail with.
            RunStopped: passed on from `report`.
        """

    def download_model(self, model_id: str, revision: str, report: ProgressCallback) -> str:
        """Fetch a model's files ahead of time and return the revision.

        Raises:
            ModelUnavailable: they can't be had.
        """

    def preload_model(self, model_id: str, revision: str, options: LoadOptions) -> None:
        """Load a model ahead of the first task that wants it.

        Raises:
            TaskError: with the reason why it can't be loaded.
        """

    def unload_model(self, model_id: str) -> None:
        """Give up the memory that a model takes."""

    def unload_idle_models(self, seconds: float) -> None:
        """Give up the memory of models that nobody has used for so long."""

    def get_warm_models(self) -> tuple[WarmModel, ...]:
        """Say which models are loaded, without asking the device; may be called at any time from any thread."""

    def get_state(self) -> EngineState:
        """Say what the engine runs on and holds; may be called at any time from any thread."""
