"""How commands to workers stand, on the pages of workers and of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app.admin import columns
from tasks_app.models import WorkerCommand
from tasks_app.queue import workers
from tasks_app.queue.workers import CommandOutcome

# How many of the latest ones a page shows.
MAX_COMMANDS_SHOWN = 10

_BADGES = {
    CommandOutcome.WAITING: "warning",
    CommandOutcome.UNDER_WAY: "info",
    CommandOutcome.DONE: "success",
    CommandOutcome.FAILED: "danger",
    CommandOutcome.GONE: "danger",
}


@dataclass(frozen=True, kw_only=True)
class CommandRow:
    """A command as people read it."""

    command: WorkerCommand
    badge: str
    ago: str


def get_latest_commands(**of: Any) -> list[CommandRow]:
    """Return the latest commands of a worker or for a model."""
    return [
        CommandRow(
            command=command,
            badge=columns.render_label(command.outcome, _BADGES[CommandOutcome(command.outcome)]),
            ago=columns.render_time_since(command.created_at),
        )
        for command in workers.list_commands().filter(**of)[:MAX_COMMANDS_SHOWN]
    ]
