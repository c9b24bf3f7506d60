"""What a model can be asked for, by its files, where this host has them: schedulers, types of tasks, its size."""

from __future__ import annotations

from tasks_app.catalog import resolve
from tasks_app.task_types import parameters, registry


def schedulers(model_id: str, revision: str) -> list[str] | None:
    """Return the schedulers that a model takes; None where it can't be told here."""
    folder = resolve.configuration(model_id, revision)
    return None if folder is None else parameters.schedulers(folder) or None


def types(model_id: str, revision: str) -> list[str] | None:
    """Return the types of tasks that a model is for; None where it can't be told here."""
    folder = resolve.configuration(model_id, revision)
    if folder is None:
        return None
    ours = [entry for entry in registry.registered() if entry.provider == registry.TEXT_TO_IMAGE.provider]
    told = {entry.name: parameters.is_for(folder, entry) for entry in ours}
    return None if None in told.values() else [name for name, is_for in told.items() if is_for]


def area(model_id: str, revision: str) -> int | None:
    """Return how many pixels a model draws by itself; None where it can't be told here."""
    folder = resolve.configuration(model_id, revision)
    return None if folder is None else parameters.area(folder)
