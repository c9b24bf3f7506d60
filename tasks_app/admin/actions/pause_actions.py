"""Confirmed actions that pause and resume the queue, a model or a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html

from tasks_app import services
from tasks_app.admin.actions.confirmed_action import ActionResult, Button, ConfirmedAction, FormData
from tasks_app.models import Pause

Scope = Pause.Scope


@dataclass(frozen=True, kw_only=True)
class PauseTarget:
    """The queue, a model or a worker; `row` is the model's, the worker's or the pause's row."""

    scope: Scope
    name: str
    row: Model | None

    def __str__(self) -> str:
        return f"{self.scope} {self.name}".strip()


_PAUSE_EFFECTS = {
    Scope.QUEUE: "No worker starts a task until the queue is resumed. Running tasks finish; new tasks are accepted and "
    "wait.",
    Scope.MODEL: "No task of this model starts until the model is resumed. Running tasks finish; tasks of other models "
    "are not affected.",
    Scope.WORKER: "The worker finishes its running task and starts no other; waiting tasks are left to other workers. "
    "It stays paused if it restarts under the same name.",
}


def _pause_target(target: PauseTarget, data: FormData, user: User) -> ActionResult:
    if not services.pause_claims(target.scope, target.name, by=user):
        return ActionResult(message=f"The {target} was already paused.")
    row = target.row or Pause.objects.get(scope=target.scope, target=target.name)
    return ActionResult(message=f"The {target} is paused.", log="Paused.", log_row=row)


def _resume_target(target: PauseTarget, data: FormData, user: User) -> ActionResult:
    if not services.resume_claims(target.scope, target.name):
        return ActionResult(message=f"The {target} was not paused.")
    return ActionResult(message=f"The {target} is resumed.", log="Resumed.", log_row=target.row)


PAUSE = ConfirmedAction[PauseTarget](
    name="pause",
    title="Pause",
    icon="pause",
    model=Pause,
    permission="tasks_app.add_pause",
    description=lambda target: _PAUSE_EFFECTS[target.scope],
    question="Pause the {target}?",
    run=_pause_target,
)
RESUME = ConfirmedAction[PauseTarget](
    name="resume",
    title="Resume",
    icon="play_arrow",
    model=Pause,
    permission="tasks_app.delete_pause",
    description="Waiting tasks start as soon as a worker is free.",
    question="Resume the {target}?",
    run=_resume_target,
)
PAUSE_ACTIONS = (PAUSE, RESUME)


def build_pause_button(request: HttpRequest, scope: Scope, name: str = "", *, paused: bool) -> Button | None:
    """Return the button that pauses or resumes and then returns here; None if the user lacks the permission."""
    action = RESUME if paused else PAUSE
    return action.build_button(request, scope=scope, target=name, back=request.get_full_path())


def build_pause_column(
    request: HttpRequest, get_target: Callable[[Any], tuple[Scope, str, bool]]
) -> Callable[[Any], str]:
    """Return a list column that pauses or resumes; `get_target` maps a row to its scope, name and paused flag.

    The links depend on the user's permissions while the admin object is shared, so each request gets its own function.
    """

    @admin.display(description="")
    def render_link(row: Any) -> str:
        scope, name, paused = get_target(row)
        button = build_pause_button(request, scope, name, paused=paused)
        return "" if button is None else format_html('<a class="text-link" href="{url}">{title}&nbsp;…</a>', **button)

    return render_link
