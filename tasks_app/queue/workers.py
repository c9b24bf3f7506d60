"""The workers' rows: how each describes itself, whether it lives, and the commands that wait for it.

A worker writes its row every few seconds; one that has been silent for a lease counts as dead. Time is the database's.
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


# Rows of workers that have been gone for so long are removed.
PRUNE_AFTER = timedelta(days=1)
_HEARTBEAT_FIELDS = ("host", "pid", "version", "device", "device_name", "memory_used", "memory_total", "warm", "uses")


class WorkerState(TextChoices):
    """How a worker stands; the first two can't be reached any more."""

    LEFT = "left"
    DEAD = "dead"
    DRAINING = "draining"
    PAUSED = "paused"
    BUSY = "busy"
    IDLE = "idle"


ALIVE_STATES = (WorkerState.DRAINING, WorkerState.PAUSED, WorkerState.BUSY, WorkerState.IDLE)


class CommandOutcome(TextChoices):
    """How a command stands; the first two may still become another."""

    WAITING = "waiting"
    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"
    GONE = "worker gone"


OPEN_OUTCOMES = (CommandOutcome.WAITING, CommandOutcome.UNDER_WAY)


def list_workers() -> QuerySet[WithAnnotations[Worker, _StateAnnotations]]:
    """Return all workers, each with its `state` and the id of the task that it runs; those that live come first."""
    # What an earlier process of the same name began is lost, though its lease may not have run out yet.
    running = Task.objects.filter(
        status=Status.RUNNING, worker=OuterRef("name"), started_at__gte=OuterRef("started_at")
    )
    paused = Pause.objects.filter(scope=Pause.Scope.WORKER, target=OuterRef("name"))
    return (
        Worker.objects.annotate(task_id=Subquery(running.values("pk")[:1]), is_paused=Exists(paused))
        .annotate(
            state=Case(
                When(left_at__isnull=False, then=Value(WorkerState.LEFT)),
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
    """Write that this worker lives, and what it is; an engine that has not started leaves its columns empty.

    Another process of the name may have left since: while they overlap, as in a restart, the one that lives counts.
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
    """Write that a process of this age goes by this name; what an earlier one of the name left is forgotten.

    At once: whoever sees the process may leave it a command, which is not to be forgotten with those.
    """
    record_heartbeat(name, host=host, pid=pid, version=version, engine=None)
    Worker.objects.filter(name=name).update(started_at=Now() - age)
    WorkerCommand.objects.filter(worker=name, ended_at=None).update(
        taken_at=Now(), ended_at=Now(), error="The worker was started anew before it had done this."
    )


def deregister_worker(name: str) -> None:
    """Write that the worker ended on purpose."""
    Worker.objects.filter(name=name).update(left_at=Now(), seen_at=Now(), warm=[])


def prune_workers() -> None:
    """Remove the rows of workers that have long been gone; a paused one stays, so that people see what is paused."""
    paused = Pause.objects.filter(scope=Pause.Scope.WORKER).values("target")
    Worker.objects.filter(seen_at__lt=Now() - PRUNE_AFTER).exclude(name__in=paused).delete()


def enqueue_commands(
    kind: WorkerCommand.Kind, model_id: str, names: Iterable[str], *, by: User | None = None
) -> list[WorkerCommand]:
    """Leave each of these workers a command; those that can't be reached any more get none."""
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
    """Give this worker its oldest open command, once."""
    for command in WorkerCommand.objects.filter(worker=name, taken_at=None).order_by("id"):
        if WorkerCommand.objects.filter(pk=command.pk, taken_at=None).update(taken_at=Now()):
            return command
    return None


def complete_command(command: WorkerCommand, *, error: str = "") -> None:
    """Write how a command ended."""
    WorkerCommand.objects.filter(pk=command.pk).update(ended_at=Now(), error=error)


def get_workers_by_model() -> dict[str, list[str]]:
    """Return by model the living workers that hold it."""
    found: dict[str, list[str]] = {}
    for worker in list_workers().filter(state__in=ALIVE_STATES):
        for model in worker.warm:
            found.setdefault(model["model_id"], []).append(worker.name)
    return found


def _build_silent_q(prefix: str = "") -> Q:
    return Q(**{f"{prefix}seen_at__lt": Now() - timedelta(seconds=settings.LEASE_SECONDS)})


def _build_gone_q(prefix: str = "") -> Q:
    return Q(**{f"{prefix}left_at__isnull": False}) | _build_silent_q(prefix)
