"""Actions on tasks in the admin: each calls a service for one task and returns the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib.admin.models import CHANGE, DELETION
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from tasks_app import errors, services
from tasks_app.contracts import IdempotentRequest, Principal
from tasks_app.models import TERMINAL, Status, Task

# Cleaned data of a confirmation's form.
FormData = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ActionResult:
    """Result of an action. `task` is the one to show next, if any; `log` is empty if the action changed nothing."""

    task: Task | None
    message: str
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskAction:
    """An action on tasks that runs after confirmation.

    `form` has the fields of the confirmation; `flag` is Django's kind of log entry.
    """

    name: str
    title: str
    icon: str
    description: str
    not_applicable: str
    statuses: frozenset[str]
    run: Callable[[Task, FormData], ActionResult]
    form: type[forms.Form] = forms.Form
    permission: str = "tasks_app.change_task"
    flag: int = CHANGE
    danger: bool = False

    def is_applicable(self, task: Task) -> bool:
        """Return True if the action can change a task with the current status."""
        return task.status in self.statuses


class IdempotencyForm(forms.Form):
    """Confirmation with an idempotency key, so that submitting it twice runs the action once."""

    key = forms.UUIDField(initial=uuid4, widget=forms.HiddenInput)


class PriorityForm(forms.Form):
    """Confirmation with a field for the new priority."""

    priority = forms.IntegerField(
        min_value=-10,
        max_value=10,
        initial=0,
        label="New priority",
        help_text="From -10 to 10; the highest runs first.",
        widget=UnfoldAdminIntegerFieldWidget,
    )


def summarize_results(results: Iterable[ActionResult]) -> str:
    """Return a sentence with the number of tasks for each result."""
    counts = Counter(result.message for result in results)
    return (", ".join(f"{count} {said}" for said, count in counts.items()) or "No task was chosen") + "."


def _cancel_task(task: Task, given: FormData) -> ActionResult:
    if not services.cancel_task(task.pk):
        return ActionResult(task=task, message="had already ended")
    task.refresh_from_db(fields=["status"])
    if task.status == Status.CANCELED:
        return ActionResult(task=task, message="canceled", log="Canceled.")
    return ActionResult(task=task, message="asked to stop at the next step", log="Asked to stop.")


def _reprioritize_task(task: Task, given: FormData) -> ActionResult:
    priority = given["priority"]
    if not services.set_priority(task.pk, priority):
        return ActionResult(task=task, message="not moved, because it waits no more")
    return ActionResult(
        task=task, message=f"given priority {priority}", log=f"Priority changed from {task.priority} to {priority}."
    )


def _retry_task(task: Task, given: FormData) -> ActionResult:
    if task.status not in TERMINAL:
        return ActionResult(task=task, message="not queued again, because it has not ended")
    new, created = services.retry_task(task, key=given["key"])
    if not created:
        return ActionResult(task=new, message="had been queued again by this very confirmation")
    return ActionResult(task=new, message="queued again as a new task", log=f"Queued again as {new.pk}.")


def _reproduce_task(task: Task, given: FormData) -> ActionResult:
    caller = Principal(scopes=frozenset(), key_id=task.key_id)
    once = IdempotentRequest(name=f"{given['key']}/{task.pk}", body_sha256="")
    try:
        new, created = services.reproduce_task(task, caller=caller, once=once)
    except errors.NotReproducibleError:
        return ActionResult(task=task, message="not reproduced, because it has not succeeded")
    except errors.ModelNotAllowedError:
        return ActionResult(task=task, message="not reproduced, because its model is no longer allowed")
    if not created:
        return ActionResult(task=new, message="had been queued again by this very confirmation")
    return ActionResult(
        task=new, message="queued again, to be compared", log=f"Queued again as {new.pk}, to be compared."
    )


def _delete_task(task: Task, given: FormData) -> ActionResult:
    try:
        deleted = services.delete_task(task)
    except errors.StorageError:
        return ActionResult(task=task, message="not deleted, because a picture's file could not be removed")
    if not deleted:
        return ActionResult(task=task, message="not deleted, because it has not ended")
    return ActionResult(task=None, message="deleted with its pictures", log="Deleted with its pictures.")


CANCEL = TaskAction(
    name="cancel",
    title="Cancel",
    icon="cancel",
    danger=True,
    description="A queued task ends at once; a running one stops at its next step. What it has made so far is lost.",
    not_applicable="has already ended",
    statuses=frozenset({Status.QUEUED, Status.RUNNING}),
    run=_cancel_task,
)
REPRIORITIZE = TaskAction(
    name="reprioritize",
    title="Reprioritize",
    icon="low_priority",
    description="Queued tasks move to another place in the queue; of the same priority, the oldest runs first.",
    not_applicable="waits no more",
    statuses=frozenset({Status.QUEUED}),
    run=_reprioritize_task,
    form=PriorityForm,
)
RETRY = TaskAction(
    name="retry",
    title="Retry",
    icon="replay",
    description="The same request, with the same seed, joins the queue as a new task. The old one stays as it is.",
    not_applicable="has not ended yet",
    statuses=frozenset(TERMINAL),
    run=_retry_task,
    form=IdempotencyForm,
)
REPRODUCE = TaskAction(
    name="reproduce",
    title="Reproduce",
    icon="compare",
    description="The same request, with the same seed and commit, runs alone as a new task. Its pictures are then "
    "compared with these: identical, near or different.",
    not_applicable="has not succeeded",
    statuses=frozenset({Status.SUCCEEDED}),
    run=_reproduce_task,
    form=IdempotencyForm,
)
# Not named `delete`, because that URL belongs to Django's own deletion, which keeps the files.
REMOVE = TaskAction(
    name="remove",
    title="Delete",
    icon="delete",
    danger=True,
    description="The task, its pictures and their files are removed for good. The admin's log keeps who did it.",
    not_applicable="has not ended yet",
    statuses=frozenset(TERMINAL),
    run=_delete_task,
    permission="tasks_app.delete_task",
    flag=DELETION,
)
TASK_ACTIONS = (CANCEL, REPRIORITIZE, RETRY, REPRODUCE, REMOVE)
