"""Pauses of the whole queue, of models and of workers: rows that every claim checks, so they survive restarts."""

from __future__ import annotations

from django.contrib.auth.models import User

from tasks_app.models import Pause, Status, Task


def create_pause(scope: Pause.Scope, target: str = "", *, by: User | None = None) -> bool:
    """Pause claims in a scope; return False if it was paused already. Running tasks continue."""
    _, created = Pause.objects.get_or_create(scope=scope, target=target, defaults={"by": by})
    return created


def delete_pause(scope: Pause.Scope, target: str = "") -> bool:
    """Delete a pause; return False if there was none."""
    gone, _ = Pause.objects.filter(scope=scope, target=target).delete()
    return bool(gone)


def is_paused(scope: Pause.Scope, target: str = "") -> bool:
    """Return whether the queue, the model or the worker is paused."""
    return Pause.objects.filter(scope=scope, target=target).exists()


def is_task_paused(task: Task, active: set[tuple[str, str]]) -> bool:
    """Return whether one of the active pauses keeps a queued task from being claimed."""
    return task.status == Status.QUEUED and bool(active & {(Pause.Scope.QUEUE, ""), (Pause.Scope.MODEL, task.model_id)})


def list_active_pauses() -> set[tuple[str, str]]:
    """Return the scope and target of every pause."""
    return set(Pause.objects.values_list("scope", "target"))


def get_queue_pause() -> Pause | None:
    """Return the pause of the whole queue, if there is one, with the user that created it."""
    return Pause.objects.select_related("by").filter(scope=Pause.Scope.QUEUE).first()
