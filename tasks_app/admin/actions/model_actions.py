"""Confirmed actions that make workers preload or unload a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django import forms
from django.contrib.auth.models import User
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from tasks_app import services
from tasks_app.admin.actions.confirmed_action import ActionResult, ConfirmationForm, ConfirmedAction, FormData
from tasks_app.models import DiffusionModel, Worker, WorkerCommand
from tasks_app.queue import workers as worker_registry

Kind = WorkerCommand.Kind
COMMAND_PERMISSION = "tasks_app.add_workercommand"


class WorkersField(forms.MultipleChoiceField):
    """Choice of workers; one that has gone since is valid, because the result counts it as unreachable."""

    def valid_value(self, value: Any) -> bool:
        """Return whether the worker has a row."""
        return value in Worker.objects.values_list("pk", flat=True)


class WorkersForm(ConfirmationForm):
    """Confirmation with a choice of the eligible workers, at first all of them."""

    workers = WorkersField(
        widget=UnfoldAdminCheckboxSelectMultipleWidget, error_messages={"required": "Choose at least one worker."}
    )

    def __init__(self, data: Mapping[str, Any] | None = None, *, targets: Sequence[DiffusionModel], warm: bool) -> None:
        super().__init__(data, targets=targets)
        eligible = _find_eligible_workers(targets[0], warm=warm)
        choices = [(worker.name, f"{worker.name}, {worker.state}") for worker in eligible]
        self.fields["workers"].choices = choices  # type: ignore[attr-defined]
        self.initial["workers"] = [name for name, _ in choices]


def _find_eligible_workers(model: DiffusionModel, *, warm: bool) -> list[Any]:
    """Return the live workers that have the model loaded, or those that don't."""
    holding = worker_registry.get_workers_by_model().get(model.model_id, [])
    alive = worker_registry.list_workers().filter(state__in=worker_registry.ALIVE_STATES)
    return [worker for worker in alive if (worker.name in holding) == warm]


def _send_command(model: DiffusionModel, data: FormData, user: User, *, kind: Kind) -> ActionResult:
    chosen = data["workers"]
    commands = services.send_worker_command(kind, model.model_id, chosen, by=user)
    names = [command.worker_id for command in commands]
    message = f"{kind.label} requested on {len(names)} worker{'' if len(names) == 1 else 's'}"
    if gone := len(chosen) - len(names):
        message += f", {gone} no longer reachable"
    return ActionResult(message=f"{message}.", log=f"{kind.label} on {', '.join(names)}." if names else "")


PRELOAD = ConfirmedAction[DiffusionModel](
    name=Kind.PRELOAD.value,
    title="Preload",
    icon="arrow_downward",
    model=DiffusionModel,
    permission=COMMAND_PERMISSION,
    description="Each of these workers loads the model between two tasks, so that the next task for it starts sooner. "
    "A worker without room for it evicts other models.",
    run=partial(_send_command, kind=Kind.PRELOAD),
    is_applicable=lambda model: bool(_find_eligible_workers(model, warm=False)),
    not_applicable="No worker is running, or the model is already loaded on every one.",
    form=partial(WorkersForm, warm=False),
)
UNLOAD = ConfirmedAction[DiffusionModel](
    name=Kind.UNLOAD.value,
    title="Unload",
    icon="arrow_upward",
    model=DiffusionModel,
    permission=COMMAND_PERMISSION,
    description="Each of these workers frees the model's memory between two tasks. The next task for the model loads "
    "it again.",
    run=partial(_send_command, kind=Kind.UNLOAD),
    is_applicable=lambda model: bool(_find_eligible_workers(model, warm=True)),
    not_applicable="The model is not loaded on any running worker.",
    form=partial(WorkersForm, warm=True),
)
MODEL_ACTIONS = (PRELOAD, UNLOAD)
