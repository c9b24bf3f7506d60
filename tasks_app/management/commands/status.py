"""`manage.py status`: the queue, the workers and the models; with `--worker`, a container's health check."""

from __future__ import annotations

import socket
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tasks_app.catalog import resolve
from tasks_app.models import DiffusionModel, Pause
from tasks_app.queue import pauses, statistics, workers

GIB = 2**30
EMPTY_CELL = "-"
TableRow = Sequence[str]


class Command(BaseCommand):
    """Print the queue, the workers with their tasks, and the models with the workers that have them loaded."""

    help = "Prints the queue, the workers and the models."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--worker",
            action="store_true",
            help="only check for a live worker on this host; exits with 1 if there is none",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print three tables, or one line for the health check."""
        if options["worker"]:
            self.stdout.write(_describe_local_worker())
            return
        tables = {
            "Queue": [("QUEUED", "OLDEST WAITS", "RUNNING", "PAUSED"), _build_queue_row()],
            "Workers": [("WORKER", "STATE", "DEVICE", "MEMORY", "WARM", "TASK", "SEEN"), *_build_worker_rows()],
            "Models": [("MODEL", "ALLOWED", "REVISION", "WARM ON", "PAUSED"), *_build_model_rows()],
        }
        for title, lines in tables.items():
            self.stdout.write(self.style.MIGRATE_HEADING(title))
            self.stdout.write("\n".join(_align_columns(lines)) + "\n\n")


def _describe_local_worker() -> str:
    host = socket.gethostname()
    worker = workers.list_workers().filter(host=host, state__in=workers.ALIVE_STATES).first()
    if worker is None:
        raise CommandError(f"No live worker on {host}.")
    return f"{worker.name} is {worker.state}."


def _build_queue_row() -> TableRow:
    queue, pause = statistics.get_queue_summary(), pauses.get_queue_pause()
    by = f", by {pause.by}" if pause and pause.by else ""
    return (
        str(queue.queued),
        _format_elapsed(queue.oldest),
        str(queue.running),
        f"for {_format_elapsed(pause.since)}{by}" if pause else "no",
    )


def _build_worker_rows() -> Iterator[TableRow]:
    for worker in workers.list_workers():
        alive = worker.state in workers.ALIVE_STATES
        warm = [model["model_id"] for model in worker.warm] if alive else []
        yield (
            worker.name,
            worker.state,
            worker.device or EMPTY_CELL,
            _format_memory(worker.memory_used, worker.memory_total) if alive else EMPTY_CELL,
            ", ".join(warm) or EMPTY_CELL,
            str(worker.task_id) if alive and worker.task_id else EMPTY_CELL,
            f"{_format_elapsed(worker.seen_at)} ago",
        )


def _build_model_rows() -> Iterator[TableRow]:
    warm, active = workers.get_workers_by_model(), pauses.list_active_pauses()
    for model in DiffusionModel.objects.all():
        paused = (Pause.Scope.MODEL, model.model_id) in active
        yield (
            model.model_id,
            "yes" if model.allowed else "no",
            resolve.get_pinned_revision(model) or "newest",
            ", ".join(warm.get(model.model_id, [])) or EMPTY_CELL,
            "yes" if paused else "no",
        )


def _format_memory(used: int | None, total: int | None) -> str:
    return EMPTY_CELL if used is None or total is None else f"{used / GIB:.1f}/{total / GIB:.1f} GiB"


def _format_elapsed(moment: datetime | None) -> str:
    """Format the time elapsed since a moment, in whole seconds."""
    return EMPTY_CELL if moment is None else str(timedelta(seconds=round((timezone.now() - moment).total_seconds())))


def _align_columns(lines: Sequence[TableRow]) -> Iterator[str]:
    """Yield the lines of a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
