"""State of worker commands, for the pages of workers and models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app.admin import columns
from tasks_app.models import WorkerCommand
from tasks_app.queue import workers
from tasks_app.queue.workers import CommandOutcome

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
    """A command with its rendered badge and age."""

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
