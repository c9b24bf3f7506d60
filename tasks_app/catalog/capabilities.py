"""Capabilities of a model, read from its files on this host: schedulers, task types and native size."""

from __future__ import annotations

from tasks_app.catalog import resolve
from tasks_app.task_types import parameters, registry


def get_schedulers(model_id: str, revision: str) -> list[str] | None:
    """Return the schedulers that a model supports, or None if this host can't determine them."""
    folder = resolve.find_configuration(model_id, revision)
    return None if folder is None else parameters.get_schedulers(folder) or None


def get_supported_task_types(model_id: str, revision: str) -> list[str] | None:
    """Return the task types that a model supports, or None if this host can't determine them."""
    folder = resolve.find_configuration(model_id, revision)
    if folder is None:
        return None
    ours = [entry for entry in registry.get_task_types() if entry.provider == registry.TEXT_TO_IMAGE.provider]
    told = {entry.name: parameters.supports_model(folder, entry) for entry in ours}
    return None if None in told.values() else [name for name, is_for in told.items() if is_for]


def get_native_pixels(model_id: str, revision: str) -> int | None:
    """Return the pixel count of a model's native size, or None if this host can't determine it."""
    folder = resolve.find_configuration(model_id, revision)
    return None if folder is None else parameters.get_native_pixels(folder)
