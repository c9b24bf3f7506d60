"""Claims of one task at a time."""

from typing import Any

from tasks_app import lifecycle
from tasks_app.models import Task


def claim_one(**how: Any) -> Task | None:
    """Claim as a worker does, for tests whose tasks run alone."""
    tasks = lifecycle.claim(**how)
    assert len(tasks) <= 1
    return tasks[0] if tasks else None
