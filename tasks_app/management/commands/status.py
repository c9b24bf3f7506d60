"""`manage.py status`: the queue, the workers and the models at a glance; `--worker` is a container's health check."""

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
NOTHING = "-"
Line = Sequence[str]


class Command(BaseCommand):
    """Print what waits and runs, who works at what, and where models are warm."""

    help = "Prints the queue, the workers and the models."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--worker",
            action="store_true",
            help="only say whether a worker lives on this host; exits with 1 if none does",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print three tables, or one line for a probe."""
        if options["worker"]:
            self.stdout.write(_alive_here())
            return
        tables = {
            "Queue": [("QUEUED", "OLDEST WAITS", "RUNNING", "PAUSED"), _queue()],
            "Workers": [("WORKER", "STATE", "DEVICE", "MEMORY", "WARM", "TASK", "SEEN"), *_workers()],
            "Models": [("MODEL", "ALLOWED", "REVISION", "WARM ON", "PAUSED"), *_models()],
        }
        for title, lines in tables.items():
            self.stdout.write(self.style.MIGRATE_HEADING(title))
            self.stdout.write("\n".join(_aligned(lines)) + "\n\n")


def _alive_here() -> str:
    host = socket.gethostname()
    worker = workers.workers().filter(host=host, state__in=workers.ALIVE).first()
    if worker is None:
        raise CommandError(f"No worker lives on {host}.")
    return f"{worker.name} is {worker.state}."


def _queue() -> Line:
    queue, pause = statistics.queue(), pauses.of_queue()
    by = f", by {pause.by}" if pause and pause.by else ""
    return (
        str(queue.queued),
        _since(queue.oldest),
        str(queue.running),
        f"for {_since(pause.since)}{by}" if pause else "no",
    )


def _workers() -> Iterator[Line]:
    for worker in workers.workers():
        alive = worker.state in workers.ALIVE
        warm = [model["model_id"] for model in worker.warm] if alive else []
        yield (
            worker.name,
            worker.state,
            worker.device or NOTHING,
            _memory(worker.memory_used, worker.memory_total) if alive else NOTHING,
            ", ".join(warm) or NOTHING,
            str(worker.task_id) if alive and worker.task_id else NOTHING,
            f"{_since(worker.seen_at)} ago",
        )


def _models() -> Iterator[Line]:
    warm, active = workers.warm_on(), pauses.active()
    for model in DiffusionModel.objects.all():
        paused = (Pause.Scope.MODEL, model.model_id) in active
        yield (
            model.model_id,
            "yes" if model.allowed else "no",
            resolve.revision(model) or "newest",
            ", ".join(warm.get(model.model_id, [])) or NOTHING,
            "yes" if paused else "no",
        )


def _memory(used: int | None, total: int | None) -> str:
    return NOTHING if used is None or total is None else f"{used / GIB:.1f}/{total / GIB:.1f} GiB"


def _since(moment: datetime | None) -> str:
    """Write how long ago that was, in whole seconds."""
    return NOTHING if moment is None else str(timedelta(seconds=round((timezone.now() - moment).total_seconds())))


def _aligned(lines: Sequence[Line]) -> Iterator[str]:
    """Write lines whose columns begin at the same place."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
