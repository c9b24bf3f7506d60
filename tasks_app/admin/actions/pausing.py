"""Pausing and resuming the queue, a model or a worker: asked about on a page, done on POST alone, logged."""

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

# Unfold has no types; its admin has the interface of Django's.
if TYPE_CHECKING:
    PauseModelAdmin = admin.ModelAdmin[Pause]
else:
    PauseModelAdmin = ModelAdmin

Scope = Pause.Scope


@dataclass(frozen=True, kw_only=True)
class PauseAction:
    """Pausing or resuming; texts are by what is paused. `said` and `said_before` follow its name in a sentence."""

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
    """Return the address that asks about it on GET and does it on POST."""
    query = {"scope": scope, "target": target, "back": back}
    given = urlencode({name: value for name, value in query.items() if value})
    return reverse(f"admin:tasks_app_pause_{turn.name}") + f"?{given}"


def build_button(request: HttpRequest, scope: Scope, target: str, *, paused: bool) -> dict[str, Any] | None:
    """Return the button that pauses or resumes it and leads back here, for those who may."""
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
    """Return a list's column that pauses or resumes; `described` says a row's scope, its name and whether it is paused.

    What a row offers depends on who looks, and the admin's object serves everybody: hence a function for each request.
    """

    @admin.display(description="")
    def link(row: Any) -> str:
        scope, target, paused = described(row)
        button = build_button(request, scope, target, paused=paused)
        return "" if button is None else format_html('<a class="text-link" href="{url}">{title}&nbsp;…</a>', **button)

    return link


@admin.register(Pause)
class PauseAdmin(PauseModelAdmin):
    """What is paused, and the pages that pause and resume."""

    list_display = ("scope_column", "target_column", "since_column", "by")
    list_display_links = None
    change_list_template = "admin/tasks_app/steering/change_list.html"
    list_select_related = ("by",)
    list_before_template = "admin/tasks_app/pause/before_list.html"
    ordering = ("-since",)
    sortable_by = ()
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse Django's form: nothing bypasses the services."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Pause | None = None) -> bool:
        """Refuse, for the same reason."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Pause | None = None) -> bool:
        """Refuse, for the same reason."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pause]:
        """Look the models up at once: pauses know names, and pages are found by keys."""
        models = DiffusionModel.objects.filter(model_id=OuterRef("target"))
        return super().get_queryset(request).annotate(model_pk=Subquery(models.values("pk")[:1]))

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the way to resume."""
        return [
            *self.list_display,
            build_button_column(request, lambda pause: (Scope(pause.scope), pause.target, True)),
        ]

    def get_urls(self) -> list[URLPattern]:
        """Put both turns before Django's own addresses."""
        view = self.admin_site.admin_view
        own = [
            path(f"{turn.name}/", view(self.confirm_view), {"turn": turn}, name=f"tasks_app_pause_{turn.name}")
            for turn in (PAUSE, RESUME)
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Offer to pause the queue; once it is, its row offers the contrary."""
        button = None if pauses.get_queue_pause() else build_button(request, Scope.QUEUE, "", paused=False)
        return super().changelist_view(request, {**(extra_context or {}), "queue_button": button})

    def confirm_view(self, request: HttpRequest, turn: PauseAction) -> HttpResponse:
        """Ask on GET; do it on POST."""
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
        """Show the kind of thing."""
        return pause.get_scope_display()

    @admin.display(description="name")
    def target_column(self, pause: Pause) -> str:
        """Show its name."""
        pages = {Scope.WORKER: ("worker", pause.target), Scope.MODEL: ("diffusionmodel", pause.model_pk)}  # type: ignore[attr-defined]
        page, key = pages.get(Scope(pause.scope), ("", None))
        if not key:
            return pause.target or "–"
        address = reverse(f"admin:tasks_app_{page}_change", args=[quote(key)])
        return format_html('<a class="text-link" href="{}">{}</a>', address, pause.target)

    @admin.display(description="since")
    def since_column(self, pause: Pause) -> str:
        """Show how long ago it began."""
        return columns.render_time_since(pause.since)


def _parse_target(request: HttpRequest) -> tuple[Scope, str]:
    scope, target = request.GET.get("scope", ""), request.GET.get("target", "")
    if scope not in Scope.values or (scope == Scope.QUEUE) == bool(target) or "\0" in target:
        raise BadRequest("Nothing of this kind can be paused.")
    return Scope(scope), target


def _find_row(scope: Scope, target: str) -> Model | None:
    """Return the row of what is paused, which keeps the log of it; the queue has none."""
    if scope == Scope.WORKER:
        return Worker.objects.filter(pk=target).first()
    return DiffusionModel.objects.filter(model_id=target).first()


def _format_target(scope: Scope, target: str) -> str:
    return f"The {scope} {target}".strip()


def _get_back_url(request: HttpRequest) -> str:
    back = request.GET.get("back", "")
    here = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    return back if here else reverse("admin:tasks_app_pause_changelist")
