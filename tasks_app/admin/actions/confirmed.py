"""What people do to tasks from the admin: each deed calls its service for one task and says what came of it."""

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
from tasks_app.contracts import Caller, Once
from tasks_app.models import TERMINAL, Status, Task

# What a confirmation's form holds.
Given = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a deed. `task` is the one to look at next, if there is one; `log` is empty when nothing moved."""

    task: Task | None
    said: str
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Something that people can do to tasks, once they have confirmed it.

    `form` is what the confirmation asks for; `flag` says how the admin's log files it.
    """

    name: str
    title: str
    icon: str
    effect: str
    no_effect: str
    statuses: frozenset[str]
    perform: Callable[[Task, Given], Result]
    form: type[forms.Form] = forms.Form
    permission: str = "tasks_app.change_task"
    flag: int = CHANGE
    danger: bool = False

    def applies(self, task: Task) -> bool:
        """Say whether the deed would move the task as it stands."""
        return task.status in self.statuses


class OnceForm(forms.Form):
    """Names the confirmation, so that submitting it twice does once what it says."""

    key = forms.UUIDField(initial=uuid4, widget=forms.HiddenInput)


class PriorityForm(forms.Form):
    """Asks for the new priority."""

    priority = forms.IntegerField(
        min_value=-10,
        max_value=10,
        initial=0,
        label="New priority",
        help_text="From -10 to 10; the highest runs first.",
        widget=UnfoldAdminIntegerFieldWidget,
    )


def summary(results: Iterable[Result]) -> str:
    """Count what moved and what did not, and why."""
    counts = Counter(result.said for result in results)
    return (", ".join(f"{count} {said}" for said, count in counts.items()) or "No task was chosen") + "."


def _cancel(task: Task, given: Given) -> Result:
    if not services.cancel(task.pk):
        return Result(task=task, said="had already ended")
    task.refresh_from_db(fields=["status"])
    if task.status == Status.CANCELED:
        return Result(task=task, said="canceled", log="Canceled.")
    return Result(task=task, said="asked to stop at the next step", log="Asked to stop.")


def _reprioritize(task: Task, given: Given) -> Result:
    priority = given["priority"]
    if not services.reprioritize(task.pk, priority):
        return Result(task=task, said="not moved, because it waits no more")
    return Result(
        task=task, said=f"given priority {priority}", log=f"Priority changed from {task.priority} to {priority}."
    )


def _retry(task: Task, given: Given) -> Result:
    if task.status not in TERMINAL:
        return Result(task=task, said="not queued again, because it has not ended")
    new, created = services.retry(task, key=given["key"])
    if not created:
        return Result(task=new, said="had been queued again by this very confirmation")
    return Result(task=new, said="queued again as a new task", log=f"Queued again as {new.pk}.")


def _reproduce(task: Task, given: Given) -> Result:
    caller = Caller(scopes=frozenset(), key_id=task.key_id)
    once = Once(name=f"{given['key']}/{task.pk}", body_sha256="")
    try:
        new, created = services.reproduce(task, caller=caller, once=once)
    except errors.NotReproducible:
        return Result(task=task, said="not reproduced, because it has not succeeded")
    except errors.ModelNotAllowed:
        return Result(task=task, said="not reproduced, because its model is no longer allowed")
    if not created:
        return Result(task=new, said="had been queued again by this very confirmation")
    return Result(task=new, said="queued again, to be compared", log=f"Queued again as {new.pk}, to be compared.")


def _remove(task: Task, given: Given) -> Result:
    try:
        deleted = services.delete(task)
    except errors.StorageFailed:
        return Result(task=task, said="not deleted, because a picture's file could not be removed")
    if not deleted:
        return Result(task=task, said="not deleted, because it has not ended")
    return Result(task=None, said="deleted with its pictures", log="Deleted with its pictures.")


CANCEL = Deed(
    name="cancel",
    title="Cancel",
    icon="cancel",
    danger=True,
    effect="A queued task ends at once; a running one stops at its next step. What it has made so far is lost.",
    no_effect="has already ended",
    statuses=frozenset({Status.QUEUED, Status.RUNNING}),
    perform=_cancel,
)
REPRIORITIZE = Deed(
    name="reprioritize",
    title="Reprioritize",
    icon="low_priority",
    effect="Queued tasks move to another place in the queue; of the same priority, the oldest runs first.",
    no_effect="waits no more",
    statuses=frozenset({Status.QUEUED}),
    perform=_reprioritize,
    form=PriorityForm,
)
RETRY = Deed(
    name="retry",
    title="Retry",
    icon="replay",
    effect="The same request, with the same seed, joins the queue as a new task. The old one stays as it is.",
    no_effect="has not ended yet",
    statuses=frozenset(TERMINAL),
    perform=_retry,
    form=OnceForm,
)
REPRODUCE = Deed(
    name="reproduce",
    title="Reproduce",
    icon="compare",
    effect="The same request, with the same seed and commit, runs alone as a new task. Its pictures are then compared "
    "with these: identical, near or different.",
    no_effect="has not succeeded",
    statuses=frozenset({Status.SUCCEEDED}),
    perform=_reproduce,
    form=OnceForm,
)
# Not named `delete`: that address is Django's own, which knows of no files.
REMOVE = Deed(
    name="remove",
    title="Delete",
    icon="delete",
    danger=True,
    effect="The task, its pictures and their files are removed for good. The admin's log keeps who did it.",
    no_effect="has not ended yet",
    statuses=frozenset(TERMINAL),
    perform=_remove,
    permission="tasks_app.delete_task",
    flag=DELETION,
)
DEEDS = (CANCEL, REPRIORITIZE, RETRY, REPRODUCE, REMOVE)
