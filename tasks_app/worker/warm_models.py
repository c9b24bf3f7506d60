"""Which models this process holds: what it tells the claim of them, loads ahead, and gives up."""

from __future__ import annotations

import time

from django.db import connection

from tasks_app.catalog import resolve
from tasks_app.contracts import Held
from tasks_app.engine.types import WarmModel
from tasks_app.task_types.registry import TEXT_TO_IMAGE
from tasks_app.worker import engines


class Warmth:
    """What the process's engines hold, and since when just that."""

    def __init__(self) -> None:
        self._models: frozenset[WarmModel] = frozenset()
        self._since = time.monotonic()
        self._fits: dict[str, int] = {}

    def look(self) -> Held:
        """Return what they hold now; the time counts from the first look at it, so not while it was being loaded."""
        models = frozenset(model for engine in engines.started() for model in engine.held())
        if models != self._models:
            self._models, self._since = models, time.monotonic()
        return Held(models=models, seconds=time.monotonic() - self._since, fits=dict(self._fits))

    def learn(self, model_id: str, pictures: int) -> None:
        """Remember that so many pictures of a model were too many for one call."""
        self._fits[model_id] = max(1, pictures // 2)


def load(model_id: str) -> None:
    """Load a model as its tasks would; for the inference thread.

    Raises:
        TaskError: with the reason why it can't be loaded.
    """
    try:
        model = resolve.resolve(model_id)
        options = resolve.load_options(model.model_id)
    finally:
        connection.close()  # the inference thread has no other use for one
    engine = engines.handler(TEXT_TO_IMAGE.name, TEXT_TO_IMAGE.provider)
    engine.preload(model.model_id, model.revision, options)


def unload(model_id: str) -> None:
    """Give up what a model takes; for the inference thread."""
    for engine in engines.started():
        engine.unload(model_id)


def unload_idle(seconds: float) -> None:
    """Give up what nobody has used for so long; for the inference thread."""
    for engine in engines.started():
        engine.unload_idle(seconds)
