"""What people do to tasks from the admin: each deed calls its service for one task and says what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tasks_app import services
from tasks_app.models import TERMINAL, Status, Task


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a deed. `task` is the one to look at next; `log` is empty when nothing moved."""

    task: Task
    said: str
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Something that people can do to tasks, once they have confirmed it."""

    name: str
    title: str
    icon: str
    danger: bool
    effect: str
    no_effect: str
    statuses: frozenset[str]
    perform: Callable[[Task], Result]

    def applies(self, task: Task) -> bool:
        """Say whether the deed would move the task as it stands."""
        return task.status in self.statuses


def summary(results: Iterable[Result]) -> str:
    """Count what moved and what did not, and why."""
    counts = Counter(result.said for result in results)
    return (", ".join(f"{count} {said}" for said, count in counts.items()) or "No task was chosen") + "."


def _cancel(task: Task) -> Result:
    if not services.cancel(task.pk):
        return Result(task=task, said="had already ended")
    task.refresh_from_db(fields=["status"])
    if task.status == Status.CANCELED:
        return Result(task=task, said="canceled", log="Canceled.")
    return Result(task=task, said="asked to stop at the next step", log="Asked to stop.")


def _retry(task: Task) -> Result:
    if task.status not in TERMINAL:
        return Result(task=task, said="not queued again, because it has not ended")
    new = services.retry(task)
    return Result(task=new, said="queued again as a new task", log=f"Queued again as {new.pk}.")


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
RETRY = Deed(
    name="retry",
    title="Retry",
    icon="replay",
    danger=False,
    effect="The same request, with the same seed, joins the queue as a new task. The old one stays as it is.",
    no_effect="has not ended yet",
    statuses=frozenset(TERMINAL),
    perform=_retry,
)
DEEDS = (CANCEL, RETRY)
