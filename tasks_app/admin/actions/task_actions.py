"""Confirmed actions on tasks: cancel, reprioritize, retry, reproduce and delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib.admin.models import DELETION
from django.contrib.auth.models import User
from django.urls import reverse
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from tasks_app import errors, services
from tasks_app.admin.actions.confirmed_action import ActionResult, ConfirmationForm, ConfirmedAction, FormData
from tasks_app.contracts import IdempotentRequest, Principal
from tasks_app.models import TERMINAL, Status, Task

CHANGE_PERMISSION = "tasks_app.change_task"


class IdempotencyForm(ConfirmationForm):
    """Confirmation with an idempotency key, so that submitting it twice runs the action once."""

    key = forms.UUIDField(initial=uuid4, widget=forms.HiddenInput)


class PriorityForm(ConfirmationForm):
    """Confirmation with a field for the new priority, at first the one of a single task."""

    priority = forms.IntegerField(
        min_value=-10,
        max_value=10,
        initial=0,
        label="New priority",
        help_text="From -10 to 10; the highest runs first.",
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def __init__(self, data: Mapping[str, Any] | None = None, *, targets: Sequence[Task]) -> None:
        super().__init__(data, targets=targets)
        if len(targets) == 1:
            self.initial["priority"] = targets[0].priority


def _cancel_task(task: Task, data: FormData, user: User) -> ActionResult:
    if not services.cancel_task(task.pk):
        return ActionResult(message="already finished")
    task.refresh_from_db(fields=["status"])
    if task.status == Status.CANCELED:
        return ActionResult(message="canceled", log="Canceled.")
    return ActionResult(message="asked to stop at the next step", log="Asked to stop.")


def _reprioritize_task(task: Task, data: FormData, user: User) -> ActionResult:
    priority = data["priority"]
    if not services.set_priority(task.pk, priority):
        return ActionResult(message="not changed: no longer queued")
    return ActionResult(
        message=f"set to priority {priority}", log=f"Priority changed from {task.priority} to {priority}."
    )


def _retry_task(task: Task, data: FormData, user: User) -> ActionResult:
    if task.status not in TERMINAL:
        return ActionResult(message="not retried: not finished yet")
    new, created = services.retry_task(task, key=data["key"])
    if not created:
        return ActionResult(message="already retried", next_url=_get_page_url(new))
    return ActionResult(
        message="queued again as a new task", log=f"Queued again as {new.pk}.", next_url=_get_page_url(new)
    )


def _reproduce_task(task: Task, data: FormData, user: User) -> ActionResult:
    caller = Principal(scopes=frozenset(), key_id=task.key_id)
    once = IdempotentRequest(name=f"{data['key']}/{task.pk}", body_sha256="")
    try:
        new, created = services.reproduce_task(task, caller=caller, once=once)
    except errors.NotReproducibleError:
        return ActionResult(message="not reproduced: has not succeeded")
    except errors.ModelNotAllowedError:
        return ActionResult(message="not reproduced: model no longer allowed")
    if not created:
        return ActionResult(message="already queued for comparison", next_url=_get_page_url(new))
    return ActionResult(
        message="queued again for comparison",
        log=f"Queued again as {new.pk} for comparison.",
        next_url=_get_page_url(new),
    )


def _delete_task(task: Task, data: FormData, user: User) -> ActionResult:
    try:
        deleted = services.delete_task(task)
    except errors.StorageError:
        return ActionResult(message="not deleted: an image file could not be removed")
    if not deleted:
        return ActionResult(message="not deleted: not finished yet")
    return ActionResult(
        message="deleted with its images",
        log="Deleted with its images.",
        next_url=reverse("admin:tasks_app_task_changelist"),
    )


def _get_page_url(task: Task) -> str:
    return reverse("admin:tasks_app_task_change", args=[task.pk])


CANCEL = ConfirmedAction[Task](
    name="cancel",
    title="Cancel",
    icon="cancel",
    model=Task,
    permission=CHANGE_PERMISSION,
    description="A queued task is canceled immediately; a running one stops at its next step and its images are lost.",
    run=_cancel_task,
    is_applicable=lambda task: task.status not in TERMINAL,
    not_applicable="already finished",
    danger=True,
)
REPRIORITIZE = ConfirmedAction[Task](
    name="reprioritize",
    title="Reprioritize",
    icon="low_priority",
    model=Task,
    permission=CHANGE_PERMISSION,
    description="Queued tasks move to another place in the queue; among equal priorities, the oldest runs first.",
    run=_reprioritize_task,
    is_applicable=lambda task: task.status == Status.QUEUED,
    not_applicable="no longer queued",
    form=PriorityForm,
)
RETRY = ConfirmedAction[Task](
    name="retry",
    title="Retry",
    icon="replay",
    model=Task,
    permission=CHANGE_PERMISSION,
    description="The same request, with the same seed, joins the queue as a new task. The original is kept.",
    run=_retry_task,
    is_applicable=lambda task: task.status in TERMINAL,
    not_applicable="not finished yet",
    form=IdempotencyForm,
)
REPRODUCE = ConfirmedAction[Task](
    name="reproduce",
    title="Reproduce",
    icon="compare",
    model=Task,
    permission=CHANGE_PERMISSION,
    description="The same request, with the same seed and model revision, runs alone as a new task. Its images are "
    "compared with the original ones: identical, near or different.",
    run=_reproduce_task,
    is_applicable=lambda task: task.status == Status.SUCCEEDED,
    not_applicable="has not succeeded",
    form=IdempotencyForm,
)
# Not named `delete`, because that URL belongs to Django's own deletion, which keeps the files.
REMOVE = ConfirmedAction[Task](
    name="remove",
    title="Delete",
    icon="delete",
    model=Task,
    permission="tasks_app.delete_task",
    description="The task, its images and their files are deleted permanently. The admin log keeps who deleted them.",
    run=_delete_task,
    is_applicable=lambda task: task.status in TERMINAL,
    not_applicable="not finished yet",
    log_flag=DELETION,
    danger=True,
)
TASK_ACTIONS = (CANCEL, REPRIORITIZE, RETRY, REPRODUCE, REMOVE)
