"""Django checks: what the registry and the settings name must exist, and finding out must not import torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from tasks_app import task_types


@register()
def check_task_types(**kwargs: Any) -> list[CheckMessage]:
    """Every registered task type names modules that exist and has a PROVIDERS entry."""
    messages: list[CheckMessage] = []
    for entry in task_types.registered():
        for dotted in (entry.params, entry.handler):
            if not _module_exists(dotted.rpartition(".")[0]):
                messages.append(Error(f"{entry.name}/{entry.provider}: no module for {dotted}.", id="tasks_app.E001"))
        if entry.provider not in settings.PROVIDERS:
            messages.append(Error(f"{entry.name}/{entry.provider}: PROVIDERS has no such entry.", id="tasks_app.E002"))
    return messages


def _module_exists(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
