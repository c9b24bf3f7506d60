"""What Redis holds of tasks' event streams."""

from typing import Any
from uuid import UUID

from tasks_app.events import progress


def read_entries(task_id: UUID) -> list[tuple[str, dict[bytes, bytes]]]:
    """Return the ids and the fields of a task's stream, the oldest entry first."""
    entries: Any = progress.client.xrange(progress.events_key(task_id))
    return [(entry.decode(), fields) for entry, fields in entries]
