"""Rows of the workers: their description, their state and the commands for them.

A worker writes its row every few seconds; one that has been silent for the length of a lease counts as dead. Times are
the database's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Exists, OuterRef, Q, QuerySet, Subquery, TextChoices, Value, When
from django.db.models.functions import Now

from tasks_app.engine.types import EngineState
from tasks_app.models import Pause, Status, Task, Worker, WorkerCommand

if TYPE_CHECKING:
    from uuid import UUID

    from django_stubs_ext import WithAnnotations

    class _StateAnnotations(TypedDict):
        state: str
        task_id: UUID | None

    class _OutcomeAnnotations(TypedDict):
        outcome: str


# Rows of workers that have been gone for this long are deleted.
PRUNE_AFTER = timedelta(days=1)
_HEARTBEAT_FIELDS = ("host", "pid", "version", "device", "device_name", "memory_used", "memory_total", "warm", "uses")


class WorkerState(TextChoices):
    """State of a worker; workers in the first two states can't be reached any more."""

    STOPPED = "stopped"
    DEAD = "dead"
    DRAINING = "draining"
    PAUSED = "paused"
    BUSY = "busy"
    IDLE = "idle"


ALIVE_STATES = (WorkerState.DRAINING, WorkerState.PAUSED, WorkerState.BUSY, WorkerState.IDLE)


class CommandOutcome(TextChoices):
    """Outcome of a command; the first two can still change."""

    WAITING = "waiting"
    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"
    GONE = "worker gone"


OPEN_OUTCOMES = (CommandOutcome.WAITING, CommandOutcome.UNDER_WAY)


def list_workers() -> QuerySet[WithAnnotations[Worker, _StateAnnotations]]:
    """Return all workers, each with its `state` and the id of its running task; live workers come first."""
    # Tasks started by an earlier process of the same name are lost, although their leases may not have expired yet.
    running = Task.objects.filter(
        status=Status.RUNNING, worker=OuterRef("name"), started_at__gte=OuterRef("started_at")
    )
    paused = Pause.objects.filter(scope=Pause.Scope.WORKER, target=OuterRef("name"))
    return (
        Worker.objects.annotate(task_id=Subquery(running.values("pk")[:1]), is_paused=Exists(paused))
        .annotate(
            state=Case(
                When(left_at__isnull=False, then=Value(WorkerState.STOPPED)),
                When(_build_silent_q(), then=Value(WorkerState.DEAD)),
                When(is_paused=True, task_id__isnull=False, then=Value(WorkerState.DRAINING)),
                When(is_paused=True, then=Value(WorkerState.PAUSED)),
                When(task_id__isnull=False, then=Value(WorkerState.BUSY)),
                default=Value(WorkerState.IDLE),
            ),
            is_gone=Case(When(_build_gone_q(), then=True), default=False),
        )
        .order_by("is_gone", "host", "name")
    )


def record_heartbeat(name: str, *, host: str, pid: int, version: str, engine: EngineState | None) -> None:
    """Record that this worker is alive, and its state; an engine that has not started leaves its columns empty.

    Another process of the same name may have deregistered in the meantime: while two overlap, as in a restart, the live
    one counts.
    """
    values: dict[str, Any] = {"host": host, "pid": pid, "version": version}
    if engine is not None:
        values |= {
            column: getattr(engine, column) for column in ("device", "device_name", "memory_used", "memory_total")
        }
        values |= {"warm": [asdict(model) for model in engine.warm], "uses": [asdict(use) for use in engine.uses]}
    row = Worker(name=name, started_at=Now(), seen_at=Now(), **values)
    Worker.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["name"], update_fields=[*_HEARTBEAT_FIELDS, "seen_at", "left_at"]
    )


@transaction.atomic
def register_worker(name: str, *, host: str, pid: int, version: str, age: timedelta) -> None:
    """Register a process that has been running for `age`, and close the commands of an earlier one of the same name.

    Both happen in one transaction: as soon as the process is visible, it may be sent a command, which must not be
    closed.
    """
    record_heartbeat(name, host=host, pid=pid, version=version, engine=None)
    Worker.objects.filter(name=name).update(started_at=Now() - age)
    WorkerCommand.objects.filter(worker=name, ended_at=None).update(
        taken_at=Now(), ended_at=Now(), error="The worker restarted before it ran this command."
    )


def deregister_worker(name: str) -> None:
    """Record that the worker ended on purpose."""
    Worker.objects.filter(name=name).update(left_at=Now(), seen_at=Now(), warm=[])


def prune_workers() -> None:
    """Delete the rows of workers that are long gone; paused ones stay, so that their pause remains visible."""
    paused = Pause.objects.filter(scope=Pause.Scope.WORKER).values("target")
    Worker.objects.filter(seen_at__lt=Now() - PRUNE_AFTER).exclude(name__in=paused).delete()


def enqueue_commands(
    kind: WorkerCommand.Kind, model_id: str, names: Iterable[str], *, by: User | None = None
) -> list[WorkerCommand]:
    """Send a command to each of these workers, except to those that can't be reached any more."""
    reachable = list_workers().filter(name__in=names, state__in=ALIVE_STATES)
    return WorkerCommand.objects.bulk_create(
        WorkerCommand(worker=worker, kind=kind, model_id=model_id, by=by) for worker in reachable
    )


def list_commands() -> QuerySet[WithAnnotations[WorkerCommand, _OutcomeAnnotations]]:
    """Return all commands, each with its `outcome`, the latest first."""
    return WorkerCommand.objects.select_related("by").annotate(
        outcome=Case(
            When(~Q(error=""), then=Value(CommandOutcome.FAILED)),
            When(ended_at__isnull=False, then=Value(CommandOutcome.DONE)),
            When(_build_gone_q("worker__"), then=Value(CommandOutcome.GONE)),
            When(taken_at__isnull=False, then=Value(CommandOutcome.UNDER_WAY)),
            default=Value(CommandOutcome.WAITING),
        )
    )


def pop_command(name: str) -> WorkerCommand | None:
    """Take this worker's oldest waiting command; no command is returned twice."""
    for command in WorkerCommand.objects.filter(worker=name, taken_at=None).order_by("id"):
        if WorkerCommand.objects.filter(pk=command.pk, taken_at=None).update(taken_at=Now()):
            return command
    return None


def complete_command(command: WorkerCommand, *, error: str = "") -> None:
    """Record the end of a command, and its error if it failed."""
    WorkerCommand.objects.filter(pk=command.pk).update(ended_at=Now(), error=error)


def get_workers_by_model() -> dict[str, list[str]]:
    """Return the names of the live workers that have a model loaded, by model id."""
    found: dict[str, list[str]] = {}
    for worker in list_workers().filter(state__in=ALIVE_STATES):
        for model in worker.warm:
            found.setdefault(model["model_id"], []).append(worker.name)
    return found


def _build_silent_q(prefix: str = "") -> Q:
    return Q(**{f"{prefix}seen_at__lt": Now() - timedelta(seconds=settings.LEASE_SECONDS)})


def _build_gone_q(prefix: str = "") -> Q:
    return Q(**{f"{prefix}left_at__isnull": False}) | _build_silent_q(prefix)
