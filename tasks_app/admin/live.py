"""Running tasks between two heartbeats: their latest steps come from Redis, for a whole page at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from tasks_app import progress
from tasks_app.models import Phase, Status, Task

_PHASES = ["", *Phase.values]


def follow(tasks: Iterable[Task]) -> dict[UUID, dict[str, Any]]:
    """Bring running tasks up to their latest step, in memory only, and return what is known beyond the row."""
    running = {task.pk: task for task in tasks if task.status == Status.RUNNING}
    latest = progress.latest(running)
    newer = {task_id: live for task_id, live in latest.items() if _is_newer(live, running[task_id])}
    for task_id, live in newer.items():
        task = running[task_id]
        task.phase, task.step, task.total_steps = live["phase"], live["step"], live["total_steps"]
    return newer


def _is_newer(live: dict[str, Any], task: Task) -> bool:
    """Say whether it belongs to the run that the row knows, and is not behind the row."""
    if live["attempt"] != task.attempt:
        return False
    return (_PHASES.index(live["phase"]), live["step"]) >= (_PHASES.index(task.phase), task.step)
