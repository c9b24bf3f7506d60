"""Protocols between the worker and a provider's engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasks_app.engine.types import EngineState, GenerationRequest, GenerationResult, LoadOptions, Progress, WarmModel


class ProgressCallback(Protocol):
    """Callback that the engine calls at every step.

    Raises:
        GenerationAbortedError: The run has to end; the engine lets the error propagate.
    """

    def __call__(self, progress: Progress, /) -> None:
        """Process one progress report."""


class Handler(Protocol):
    """Interface of a provider's engine.

    All methods except `get_warm_models` and `get_state` are called from one thread at a time.
    """

    def run(self, requests: Sequence[GenerationRequest], report: ProgressCallback) -> list[GenerationResult]:
        """Generate the images of several requests in one call.

        The requests differ only in prompt, negative prompt and seed.

        Raises:
            TaskError: Every task of the call fails with the code of this error.
            GenerationAbortedError: Raised by `report`.
        """

    def download_model(self, model_id: str, revision: str, report: ProgressCallback) -> str:
        """Download a model's files ahead of time and return the revision.

        Raises:
            ModelUnavailableError: The files are not available.
        """

    def preload_model(self, model_id: str, revision: str, options: LoadOptions) -> None:
        """Load a model ahead of the first task that uses it.

        Raises:
            TaskError: The model can't be loaded; the message gives the reason.
        """

    def unload_model(self, model_id: str) -> None:
        """Free the memory of a model."""

    def unload_idle_models(self, seconds: float) -> None:
        """Free the memory of models that have not been used for this many seconds."""

    def get_warm_models(self) -> tuple[WarmModel, ...]:
        """Return the loaded models without querying the device; safe to call at any time from any thread."""

    def get_state(self) -> EngineState:
        """Return the engine's device and loaded models; safe to call at any time from any thread."""
