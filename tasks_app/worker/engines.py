"""Engine instances of this process: one per engine class and provider, configured by the setting PROVIDERS."""

from __future__ import annotations

import gc
from typing import Any, cast

from django.conf import settings
from django.utils.module_loading import import_string

from tasks_app.engine.handler import Handler
from tasks_app.task_types import registry

# Keyed by class path and provider: task types that name the same ones share an engine.
_handlers: dict[tuple[str, str], Handler] = {}


def get_handler(task_type: str, provider: str) -> Handler:
    """Return the engine of a task type and provider; the first call imports it, which can take seconds.

    Raises:
        KeyError: no such task type is registered, or PROVIDERS has no such provider.
    """
    entry = registry.get_task_type(task_type, provider)
    key = entry.handler, provider
    if key not in _handlers:
        _handlers[key] = cast(Handler, _import_engine(entry.handler)(**settings.PROVIDERS[provider]))
    return _handlers[key]


def get_loaded_handlers() -> list[Handler]:
    """Return the engines that this process has created so far."""
    return list(_handlers.values())


def _import_engine(path: str) -> Any:
    # The half million objects of an engine are never freed. Without `disable` and `freeze`, garbage collection would
    # scan them many times during the import, a fifth of its five seconds, and at every model unload, for 0.3 s.
    gc.disable()
    try:
        return import_string(path)
    finally:
        gc.freeze()
        gc.enable()
