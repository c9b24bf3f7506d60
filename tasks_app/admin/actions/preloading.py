"""Preloading a model on workers ahead of its tasks, and unloading it: confirmed on a page, run on POST only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from tasks_app import services
from tasks_app.admin import log
from tasks_app.models import DiffusionModel, WorkerCommand
from tasks_app.queue import workers as worker_registry

# Unfold has no type hints; its admin has the same interface as Django's.
if TYPE_CHECKING:
    CatalogModelAdmin = admin.ModelAdmin[DiffusionModel]
else:
    CatalogModelAdmin = ModelAdmin

COMMAND_PERMISSION = "tasks_app.add_workercommand"


@dataclass(frozen=True, kw_only=True)
class ModelAction:
    """A command that workers can run on a model; it is for the workers that have it loaded, or for the others."""

    kind: WorkerCommand.Kind
    title: str
    icon: str
    description: str
    not_applicable: str
    for_warm_workers: bool


PRELOAD = ModelAction(
    kind=WorkerCommand.Kind.PRELOAD,
    title="Preload",
    icon="arrow_downward",
    description="Each of these workers loads the model between two tasks, so that the next task that wants it need "
    "not wait for that. What a worker holds is evicted where there is no room for both.",
    not_applicable="No worker lives that doesn't hold it already.",
    for_warm_workers=False,
)
UNLOAD = ModelAction(
    kind=WorkerCommand.Kind.UNLOAD,
    title="Unload",
    icon="arrow_upward",
    description="Each of these workers gives up the memory that the model takes, between two tasks. The next task that "
    "wants it loads it anew.",
    not_applicable="No living worker holds it.",
    for_warm_workers=True,
)
MODEL_ACTIONS = (PRELOAD, UNLOAD)


class WorkersForm(forms.Form):
    """Choice of workers; those that are gone by now are counted as unreachable, not rejected."""

    workers = forms.MultipleChoiceField(
        widget=UnfoldAdminCheckboxSelectMultipleWidget, error_messages={"required": "Choose at least one worker."}
    )

    def __init__(self, known: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workers"].choices = known  # type: ignore[attr-defined]


class ModelActionsAdmin(CatalogModelAdmin):
    """Model admin with actions that make workers load or unload a model."""

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs of both actions before Django's own."""
        view = self.admin_site.admin_view(self.command_view)
        own = [
            path(f"<int:pk>/{order.kind}/", view, {"order": order}, name=f"tasks_app_diffusionmodel_{order.kind}")
            for order in MODEL_ACTIONS
        ]
        return [*own, *super().get_urls()]

    def command_view(self, request: HttpRequest, pk: int, order: ModelAction) -> HttpResponse:
        """Show the confirmation on GET; enqueue the commands on POST."""
        if not request.user.has_perm(COMMAND_PERMISSION):
            raise PermissionDenied
        model = DiffusionModel.objects.filter(pk=pk).first()
        if model is None:
            raise Http404
        offered = [(worker.name, f"{worker.name}, {worker.state}") for worker in _find_eligible_workers(order, model)]
        if request.method != "POST":
            form = WorkersForm(offered, initial={"workers": [name for name, _ in offered]})
            return self._render_confirmation(request, order, model, form)
        form = WorkersForm([(worker.name, worker.name) for worker in worker_registry.list_workers()], request.POST)
        if not form.is_valid():
            form.fields["workers"].choices = offered  # type: ignore[attr-defined]
            return self._render_confirmation(request, order, model, form)
        self._enqueue_commands(request, order, model, form.cleaned_data["workers"])
        return HttpResponseRedirect(_model_url(model))

    def _enqueue_commands(
        self, request: HttpRequest, order: ModelAction, model: DiffusionModel, chosen: list[str]
    ) -> None:
        assert isinstance(request.user, User), "only people who are logged in have permissions"
        left = [
            command.worker_id
            for command in services.send_worker_command(order.kind, model.model_id, chosen, by=request.user)
        ]
        if left:
            log.write_entry(request, model, f"{order.title} on {', '.join(left)}.")
        said = f"{len(left)} asked to {order.kind} {model.model_id}"
        if gone := len(chosen) - len(left):
            said += f", {gone} can't be reached any more"
        self.message_user(request, f"{said}.", messages.SUCCESS if left else messages.WARNING)

    def _render_confirmation(
        self, request: HttpRequest, order: ModelAction, model: DiffusionModel, form: WorkersForm
    ) -> HttpResponse:
        anybody = bool(form.fields["workers"].choices)  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{order.title} {model.model_id}?",
            "effect": order.description if anybody else order.not_applicable,
            "form": form if anybody else None,
            "confirm": order.title if anybody else "",
            "back": _model_url(model),
        }
        return TemplateResponse(request, "admin/tasks_app/steering/confirm.html", context)


def _find_eligible_workers(order: ModelAction, model: DiffusionModel) -> list[Any]:
    """Return the live workers that have the model loaded, or those that don't, as the action requires."""
    holding = worker_registry.get_workers_by_model().get(model.model_id, [])
    alive = worker_registry.list_workers().filter(state__in=worker_registry.ALIVE_STATES)
    return [worker for worker in alive if (worker.name in holding) == order.for_warm_workers]


def _model_url(model: DiffusionModel) -> str:
    return reverse("admin:tasks_app_diffusionmodel_change", args=[model.pk])
