"""From a task type's entry to its engine: one handler per provider and process, made from the settings' entry."""

from __future__ import annotations

import gc
from typing import Any, cast

from django.conf import settings
from django.utils.module_loading import import_string

from tasks_app.engine.handler import Handler
from tasks_app.task_types import registry

# By the class and the settings' entry: task types that name the same ones share their engine.
_handlers: dict[tuple[str, str], Handler] = {}


def get_handler(task_type: str, provider: str) -> Handler:
    """Return the handler; the first call imports the engine, which can take seconds.

    Raises:
        KeyError: no such entry.
    """
    entry = registry.get_task_type(task_type, provider)
    key = entry.handler, provider
    if key not in _handlers:
        _handlers[key] = cast(Handler, _import_engine(entry.handler)(**settings.PROVIDERS[provider]))
    return _handlers[key]


def get_loaded_handlers() -> list[Handler]:
    """Return the handlers that this process has made so far."""
    return list(_handlers.values())


def _import_engine(path: str) -> Any:
    # Of the half million objects that an engine brings none goes again, but Python would look through them many times
    # while it comes, which took a fifth of five seconds, and once more whenever a model goes, which took 0.3 s.
    gc.disable()
    try:
        return import_string(path)
    finally:
        gc.freeze()
        gc.enable()
