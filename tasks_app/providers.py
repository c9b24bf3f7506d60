"""From a task type's entry to its engine: one handler per provider and process, made from the settings' entry."""

from __future__ import annotations

from functools import cache
from typing import cast

from django.conf import settings
from django.utils.module_loading import import_string

from tasks_app import task_types
from tasks_app.contracts import Handler


@cache
def handler(task_type: str, provider: str) -> Handler:
    """Return the handler; the first call imports the engine, which can take seconds.

    Raises:
        KeyError: no such entry.
    """
    entry = task_types.get(task_type, provider)
    return cast(Handler, import_string(entry.handler)(**settings.PROVIDERS[provider]))
