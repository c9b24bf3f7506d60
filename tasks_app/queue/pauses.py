"""What is paused: the whole queue, a model, a worker. A pause is a row that claims look at, so it outlasts restarts."""

from __future__ import annotations

from django.contrib.auth.models import User

from tasks_app.models import Pause, Status, Task


def create_pause(scope: Pause.Scope, target: str = "", *, by: User | None = None) -> bool:
    """Let nothing of the kind be claimed any more; False when that was so before. What runs goes on."""
    _, created = Pause.objects.get_or_create(scope=scope, target=target, defaults={"by": by})
    return created


def delete_pause(scope: Pause.Scope, target: str = "") -> bool:
    """Take a pause away; False when there was none."""
    gone, _ = Pause.objects.filter(scope=scope, target=target).delete()
    return bool(gone)


def is_paused(scope: Pause.Scope, target: str = "") -> bool:
    """Return whether it is paused."""
    return Pause.objects.filter(scope=scope, target=target).exists()


def is_task_paused(task: Task, active: set[tuple[str, str]]) -> bool:
    """Return whether a queued task waits for a pause among these to end."""
    return task.status == Status.QUEUED and bool(active & {(Pause.Scope.QUEUE, ""), (Pause.Scope.MODEL, task.model_id)})


def list_active_pauses() -> set[tuple[str, str]]:
    """Return scope and target of every pause."""
    return set(Pause.objects.values_list("scope", "target"))


def get_queue_pause() -> Pause | None:
    """Return the pause of the whole queue, with who began it."""
    return Pause.objects.select_related("by").filter(scope=Pause.Scope.QUEUE).first()
