"""How commands to workers stand, on the pages of workers and of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app.admin import columns
from tasks_app.models import WorkerCommand
from tasks_app.queue import workers
from tasks_app.queue.workers import Outcome

# How many of the latest ones a page shows.
SHOWN = 10

_BADGES = {
    Outcome.WAITING: "warning",
    Outcome.UNDER_WAY: "info",
    Outcome.DONE: "success",
    Outcome.FAILED: "danger",
    Outcome.GONE: "danger",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A command as people read it."""

    command: WorkerCommand
    badge: str
    ago: str


def latest(**of: Any) -> list[Row]:
    """Return the latest commands of a worker or for a model."""
    return [
        Row(
            command=command,
            badge=columns.label(command.outcome, _BADGES[Outcome(command.outcome)]),
            ago=columns.ago(command.created_at),
        )
        for command in workers.commands().filter(**of)[:SHOWN]
    ]
