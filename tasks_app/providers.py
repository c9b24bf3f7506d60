"""From a task type's entry to its engine: one handler per provider and process, made from the settings' entry."""

from __future__ import annotations

from typing import cast

from django.conf import settings
from django.utils.module_loading import import_string

from tasks_app import task_types
from tasks_app.contracts import Handler

# By the class and the settings' entry: task types that name the same ones share their engine.
_handlers: dict[tuple[str, str], Handler] = {}


def handler(task_type: str, provider: str) -> Handler:
    """Return the handler; the first call imports the engine, which can take seconds.

    Raises:
        KeyError: no such entry.
    """
    entry = task_types.get(task_type, provider)
    key = entry.handler, provider
    if key not in _handlers:
        _handlers[key] = cast(Handler, import_string(entry.handler)(**settings.PROVIDERS[provider]))
    return _handlers[key]


def started() -> list[Handler]:
    """Return the handlers that this process has made so far."""
    return list(_handlers.values())
