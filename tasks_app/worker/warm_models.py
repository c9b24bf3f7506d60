"""Models loaded by this process: reporting them to claims, preloading and unloading."""

from __future__ import annotations

import time

from django.db import connection

from tasks_app.catalog import resolve
from tasks_app.catalog import rows as model_rows
from tasks_app.contracts import WorkerCapacity
from tasks_app.engine.types import WarmModel
from tasks_app.task_types.registry import TEXT_TO_IMAGE
from tasks_app.worker import engines


class CapacityTracker:
    """The models that this process's engines have loaded, since when, and the batch limits it has learned."""

    def __init__(self) -> None:
        self._models: frozenset[WarmModel] = frozenset()
        self._unchanged_since = time.monotonic()
        self._max_batch_sizes: dict[str, int] = {}

    def get_capacity(self) -> WorkerCapacity:
        """Return the loaded models and the batch limits.

        The unchanged time starts with the first call that sees the models, so it does not include their loading.
        """
        models = frozenset(model for engine in engines.get_loaded_handlers() for model in engine.get_warm_models())
        if models != self._models:
            self._models, self._unchanged_since = models, time.monotonic()
        return WorkerCapacity(
            models=models,
            unchanged_seconds=time.monotonic() - self._unchanged_since,
            max_batch_sizes=dict(self._max_batch_sizes),
        )

    def record_oom(self, model_id: str, pictures: int) -> None:
        """Limit a model's later calls to half of the images that ran out of memory, but at least one."""
        self._max_batch_sizes[model_id] = max(1, pictures // 2)


def load_model(model_id: str) -> None:
    """Load a model as its tasks would; call this in the inference thread.

    Raises:
        TaskError: the model can't be loaded; the message gives the reason.
    """
    try:
        model = resolve.resolve_model(model_id)
        options = model_rows.fetch_load_options(model.model_id)
    finally:
        connection.close()  # the inference thread needs no connection otherwise
    engine = engines.get_handler(TEXT_TO_IMAGE.name, TEXT_TO_IMAGE.provider)
    engine.preload_model(model.model_id, model.revision, options)


def unload_model(model_id: str) -> None:
    """Free the memory of a model; call this in the inference thread."""
    for engine in engines.get_loaded_handlers():
        engine.unload_model(model_id)


def unload_idle_models(seconds: float) -> None:
    """Unload models that have not been used for this many seconds; call this in the inference thread."""
    for engine in engines.get_loaded_handlers():
        engine.unload_idle_models(seconds)
