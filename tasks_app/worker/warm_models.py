"""Which models this process holds: what it tells the claim of them, loads ahead, and gives up."""

from __future__ import annotations

import time

from django.db import connection

from tasks_app.catalog import resolve
from tasks_app.contracts import WorkerCapacity
from tasks_app.engine.types import WarmModel
from tasks_app.task_types.registry import TEXT_TO_IMAGE
from tasks_app.worker import engines


class CapacityTracker:
    """What the process's engines hold, and since when just that."""

    def __init__(self) -> None:
        self._models: frozenset[WarmModel] = frozenset()
        self._unchanged_since = time.monotonic()
        self._max_batch_sizes: dict[str, int] = {}

    def get_capacity(self) -> WorkerCapacity:
        """Return what they hold now; the time counts from the first look at it, so not while it was being loaded."""
        models = frozenset(model for engine in engines.get_loaded_handlers() for model in engine.get_warm_models())
        if models != self._models:
            self._models, self._unchanged_since = models, time.monotonic()
        return WorkerCapacity(
            models=models,
            unchanged_seconds=time.monotonic() - self._unchanged_since,
            max_batch_sizes=dict(self._max_batch_sizes),
        )

    def record_oom(self, model_id: str, pictures: int) -> None:
        """Remember that so many pictures of a model were too many for one call."""
        self._max_batch_sizes[model_id] = max(1, pictures // 2)


def load_model(model_id: str) -> None:
    """Load a model as its tasks would; for the inference thread.

    Raises:
        TaskError: with the reason why it can't be loaded.
    """
    try:
        model = resolve.resolve_model(model_id)
        options = resolve.fetch_load_options(model.model_id)
    finally:
        connection.close()  # the inference thread has no other use for one
    engine = engines.get_handler(TEXT_TO_IMAGE.name, TEXT_TO_IMAGE.provider)
    engine.preload_model(model.model_id, model.revision, options)


def unload_model(model_id: str) -> None:
    """Give up what a model takes; for the inference thread."""
    for engine in engines.get_loaded_handlers():
        engine.unload_model(model_id)


def unload_idle_models(seconds: float) -> None:
    """Give up what nobody has used for so long; for the inference thread."""
    for engine in engines.get_loaded_handlers():
        engine.unload_idle_models(seconds)
