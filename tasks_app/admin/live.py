"""Live progress of running tasks between two heartbeats, read from Redis for a whole page at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from tasks_app.events import progress
from tasks_app.models import Task


def apply_live_progress(tasks: Iterable[Task]) -> dict[UUID, dict[str, Any]]:
    """Update running tasks to their latest step, in memory only, and return the live progress by task id."""
    by_id = {task.pk: task for task in tasks}
    live = progress.get_live_progress(by_id.values())
    for task_id, known in live.items():
        task = by_id[task_id]
        task.phase, task.step, task.total_steps = known["phase"], known["step"], known["total_steps"]
    return live
