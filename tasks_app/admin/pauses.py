"""Pause list, and the pages that pause and resume the queue, a model or a worker."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import BadRequest
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme

from tasks_app.admin import columns
from tasks_app.admin.actions.pause_actions import (
    PAUSE_ACTIONS,
    PauseTarget,
    Scope,
    build_pause_button,
    build_pause_column,
)
from tasks_app.admin.actions.views import ConfirmedActionsAdmin
from tasks_app.models import DiffusionModel, Pause, Worker
from tasks_app.queue import pauses


@admin.register(Pause)
class PauseAdmin(ConfirmedActionsAdmin):
    """Admin of the pauses, with the pages that pause and resume."""

    confirmed_actions = PAUSE_ACTIONS
    # The target is in the query, because it may have no row.
    target_route = ""
    list_display = ("scope_column", "target_column", "since_column", "by")
    list_display_links = None
    change_list_template = "admin/tasks_app/steering/change_list.html"
    list_select_related = ("by",)
    list_before_template = "admin/tasks_app/pause/before_list.html"
    ordering = ("-since",)
    sortable_by = ()
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse Django's form: pausing and resuming go through the services."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Pause | None = None) -> bool:
        """Refuse, for the same reason as adding."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Pause | None = None) -> bool:
        """Refuse, for the same reason as adding."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pause]:
        """Annotate each pause with its model's key, because pauses store names and the admin's URLs need keys."""
        models = DiffusionModel.objects.filter(model_id=OuterRef("target"))
        queryset: QuerySet[Pause] = super().get_queryset(request)
        return queryset.annotate(model_pk=Subquery(models.values("pk")[:1]))

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the column that resumes."""
        resume = build_pause_column(request, lambda pause: (Scope(pause.scope), pause.target, True))
        return [*self.list_display, resume]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Offer to pause the queue; while it is paused, its row offers to resume it."""
        button = None if pauses.get_queue_pause() else build_pause_button(request, Scope.QUEUE, paused=False)
        return super().changelist_view(request, {**(extra_context or {}), "queue_button": button})

    def find_target(self, request: HttpRequest, pk: Any) -> PauseTarget:
        """Return the target that the query names, if it or its pause exists."""
        scope, name = _parse_target(request)
        row: Worker | DiffusionModel | Pause | None = None
        if scope == Scope.WORKER:
            row = Worker.objects.filter(pk=name).first()
        elif scope == Scope.MODEL:
            row = DiffusionModel.objects.filter(model_id=name).first()
        row = row or Pause.objects.filter(scope=scope, target=name).first()
        if row is None and scope != Scope.QUEUE:
            raise Http404
        return PauseTarget(scope=scope, name=name, row=row)

    def get_back_url(self, request: HttpRequest, target: PauseTarget) -> str:
        """Return the page of this site that the query names, or the list."""
        back = request.GET.get("back", "")
        here = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
        return back if here else reverse("admin:tasks_app_pause_changelist")

    @admin.display(description="scope")
    def scope_column(self, pause: Pause) -> str:
        """Show the scope of the pause."""
        return pause.get_scope_display()

    @admin.display(description="name")
    def target_column(self, pause: Pause) -> str:
        """Show the name of the paused worker or model, linked to its page."""
        pages = {Scope.WORKER: ("worker", pause.target), Scope.MODEL: ("diffusionmodel", pause.model_pk)}  # type: ignore[attr-defined]
        page, key = pages.get(Scope(pause.scope), ("", None))
        if not key:
            return pause.target or "–"
        address = reverse(f"admin:tasks_app_{page}_change", args=[quote(key)])
        return format_html('<a class="text-link" href="{}">{}</a>', address, pause.target)

    @admin.display(description="since")
    def since_column(self, pause: Pause) -> str:
        """Show the time since the pause began."""
        return columns.render_time_since(pause.since)


def _parse_target(request: HttpRequest) -> tuple[Scope, str]:
    scope, target = request.GET.get("scope", ""), request.GET.get("target", "")
    if scope not in Scope.values or (scope == Scope.QUEUE) == bool(target) or "\0" in target:
        raise BadRequest("Not a pausable scope and target.")
    return Scope(scope), target
