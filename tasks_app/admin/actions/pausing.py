"""Pausing and resuming the queue, a model or a worker: confirmed on a page, run on POST only, and logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.admin import ModelAdmin

from tasks_app import services
from tasks_app.admin import columns, log
from tasks_app.models import DiffusionModel, Pause, Worker
from tasks_app.queue import pauses

# Unfold has no type hints; its admin has the same interface as Django's.
if TYPE_CHECKING:
    PauseModelAdmin = admin.ModelAdmin[Pause]
else:
    PauseModelAdmin = ModelAdmin

Scope = Pause.Scope


@dataclass(frozen=True, kw_only=True)
class PauseAction:
    """The action that pauses or the one that resumes.

    `descriptions` has a text for each scope; `message` and `unchanged_message` continue a sentence that begins with the
    target's name.
    """

    name: str
    title: str
    icon: str
    permission: str
    descriptions: dict[Scope, str]
    message: str
    unchanged_message: str
    log_message: str
    run: Callable[[Scope, str, User], bool]


PAUSE = PauseAction(
    name="pause",
    title="Pause",
    icon="pause",
    permission="tasks_app.add_pause",
    descriptions={
        Scope.QUEUE: "No worker takes a task until somebody resumes the queue. What runs goes on to its end; new tasks "
        "are accepted and wait.",
        Scope.MODEL: "No task of this model is taken until somebody resumes it. What runs goes on to its end; tasks of "
        "other models pass by.",
        Scope.WORKER: "The worker finishes the task that it runs and takes no other; what waits is for other workers. "
        "It stays paused when it is started anew under this name.",
    },
    message="is paused",
    unchanged_message="had been paused before",
    log_message="Paused.",
    run=lambda scope, target, by: services.pause_claims(scope, target, by=by),
)
RESUME = PauseAction(
    name="resume",
    title="Resume",
    icon="play_arrow",
    permission="tasks_app.delete_pause",
    descriptions=dict.fromkeys(Scope, "What waits is taken at once."),
    message="goes on",
    unchanged_message="was not paused",
    log_message="Resumed.",
    run=lambda scope, target, by: services.resume_claims(scope, target),
)


def action_url(turn: PauseAction, scope: Scope, target: str = "", *, back: str = "") -> str:
    """Return the URL that shows the confirmation on GET and runs the action on POST."""
    query = {"scope": scope, "target": target, "back": back}
    given = urlencode({name: value for name, value in query.items() if value})
    return reverse(f"admin:tasks_app_pause_{turn.name}") + f"?{given}"


def build_button(request: HttpRequest, scope: Scope, target: str, *, paused: bool) -> dict[str, Any] | None:
    """Return the button that pauses or resumes the target and then returns here; None without the permission."""
    turn = RESUME if paused else PAUSE
    if not request.user.has_perm(turn.permission):
        return None
    return {
        "title": turn.title,
        "icon": turn.icon,
        "url": action_url(turn, scope, target, back=request.get_full_path()),
    }


def build_button_column(
    request: HttpRequest, described: Callable[[Any], tuple[Scope, str, bool]]
) -> Callable[[Any], str]:
    """Return a list column that pauses or resumes; `described` maps a row to its scope, name and paused flag.

    The links depend on the user's permissions while the admin object is shared, so each request gets its own function.
    """

    @admin.display(description="")
    def link(row: Any) -> str:
        scope, target, paused = described(row)
        button = build_button(request, scope, target, paused=paused)
        return "" if button is None else format_html('<a class="text-link" href="{url}">{title}&nbsp;…</a>', **button)

    return link


@admin.register(Pause)
class PauseAdmin(PauseModelAdmin):
    """Admin of the pauses, with the pages that pause and resume."""

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
        return super().get_queryset(request).annotate(model_pk=Subquery(models.values("pk")[:1]))

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the column that resumes."""
        return [
            *self.list_display,
            build_button_column(request, lambda pause: (Scope(pause.scope), pause.target, True)),
        ]

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs to pause and resume before Django's own."""
        view = self.admin_site.admin_view
        own = [
            path(f"{turn.name}/", view(self.confirm_view), {"turn": turn}, name=f"tasks_app_pause_{turn.name}")
            for turn in (PAUSE, RESUME)
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Offer to pause the queue; while it is paused, its row offers to resume it."""
        button = None if pauses.get_queue_pause() else build_button(request, Scope.QUEUE, "", paused=False)
        return super().changelist_view(request, {**(extra_context or {}), "queue_button": button})

    def confirm_view(self, request: HttpRequest, turn: PauseAction) -> HttpResponse:
        """Show the confirmation on GET; pause or resume on POST."""
        if not request.user.has_perm(turn.permission):
            raise PermissionDenied
        scope, target = _parse_target(request)
        pause = Pause.objects.filter(scope=scope, target=target).first()
        subject = _find_row(scope, target)
        if subject is None and pause is None and scope != Scope.QUEUE:
            raise Http404
        if request.method != "POST":
            return self._render_confirmation(request, turn, scope, target)
        assert isinstance(request.user, User), "only people who are logged in have permissions"
        if moved := turn.run(scope, target, request.user):
            known = subject or pause or Pause.objects.get(scope=scope, target=target)
            log.write_entry(request, known, turn.log_message)
        said = f"{_format_target(scope, target)} {turn.message if moved else turn.unchanged_message}."
        self.message_user(request, said, messages.SUCCESS if moved else messages.WARNING)
        return HttpResponseRedirect(_get_back_url(request))

    def _render_confirmation(self, request: HttpRequest, turn: PauseAction, scope: Scope, target: str) -> HttpResponse:
        name = _format_target(scope, target)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{turn.title} {name[0].lower()}{name[1:]}?",
            "effect": turn.descriptions[scope],
            "confirm": turn.title,
            "back": _get_back_url(request),
        }
        return TemplateResponse(request, "admin/tasks_app/steering/confirm.html", context)

    @admin.display(description="what")
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
        raise BadRequest("Nothing of this kind can be paused.")
    return Scope(scope), target


def _find_row(scope: Scope, target: str) -> Model | None:
    """Return the row of the worker or model, which the log entry refers to; the queue has none."""
    if scope == Scope.WORKER:
        return Worker.objects.filter(pk=target).first()
    return DiffusionModel.objects.filter(model_id=target).first()


def _format_target(scope: Scope, target: str) -> str:
    return f"The {scope} {target}".strip()


def _get_back_url(request: HttpRequest) -> str:
    back = request.GET.get("back", "")
    here = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    return back if here else reverse("admin:tasks_app_pause_changelist")
