"""Base of the admins with confirmed actions: their URLs, the confirmation, the run on POST and its log entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin

from tasks_app.admin.actions.confirmed_action import ActionResult, ConfirmedAction, FormData

# Unfold has no type hints; its admin has the same interface as Django's.
if TYPE_CHECKING:
    AnyModelAdmin = admin.ModelAdmin[Any]
else:
    AnyModelAdmin = ModelAdmin


class ConfirmedActionsAdmin(AnyModelAdmin):
    """Model admin with actions that each show a confirmation on GET, run on POST only and are logged with the user."""

    confirmed_actions: Sequence[ConfirmedAction[Any]] = ()
    # Route of a target, which the actions' names are appended to.
    target_route = "<int:pk>/"
    # Whether a missing target redirects with a message, as on Django's own pages, instead of responding with 404.
    redirects_if_missing = False

    def get_urls(self) -> list[URLPattern]:
        """Add the actions' URLs before Django's own."""
        view = self.admin_site.admin_view(self.confirm_view)
        own = [
            path(f"{self.target_route}{action.name}/", view, {"action": action}, name=action.url_name)
            for action in self.confirmed_actions
        ]
        return [*own, *super().get_urls()]

    def confirm_view(self, request: HttpRequest, action: ConfirmedAction[Any], pk: Any = None) -> HttpResponse:
        """Show the confirmation on GET or if the form is invalid; run the action on POST."""
        check_permission(request, action)
        target = self.find_target(request, pk)
        if target is None:
            return self._respond_missing(request, pk)
        back, form = self.get_back_url(request, target), build_form(request, action, [target])
        if request.method != "POST" or not form.is_valid():
            return self.render_confirmation(request, action, [target], form, back=back)
        (result,) = self.run_action(request, action, [target], form.cleaned_data)
        return HttpResponseRedirect(result.next_url or back)

    def find_target(self, request: HttpRequest, pk: Any) -> Any | None:
        """Return the row that the action is for; None if it does not exist."""
        return self.get_queryset(request).filter(pk=pk).first()

    def get_back_url(self, request: HttpRequest, target: Any) -> str:
        """Return the URL of the page with the action's button."""
        return reverse(f"admin:tasks_app_{self.opts.model_name}_change", args=[quote(target.pk)])

    def get_confirmation_context(self, action: ConfirmedAction[Any], targets: Sequence[Any]) -> dict[str, Any]:
        """Return the confirmation's question and, for several targets, their table."""
        return {"title": action.question.format(title=action.title, target=targets[0])}

    def summarize_results(self, results: Sequence[ActionResult]) -> str:
        """Return the message for the user."""
        return results[0].message

    def render_confirmation(
        self,
        request: HttpRequest,
        action: ConfirmedAction[Any],
        targets: Sequence[Any],
        form: forms.Form,
        *,
        back: str,
        post_url: str = "",
    ) -> HttpResponse:
        """Render the confirmation, which posts to its own URL by default."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "action": action,
            "description": action.describe_effect(targets),
            "is_applicable": any(action.is_applicable(target) for target in targets),
            "form": form,
            "post_url": post_url or request.get_full_path(),
            "back": back,
            **self.get_confirmation_context(action, targets),
        }
        return TemplateResponse(request, "admin/tasks_app/steering/confirm.html", context)

    def run_action(
        self, request: HttpRequest, action: ConfirmedAction[Any], targets: Iterable[Any], data: FormData
    ) -> list[ActionResult]:
        """Run the action for each target, log the changes and show the user a message."""
        assert isinstance(request.user, User), "only users who are logged in have permissions"
        results = []
        for target in targets:
            result = action.run(target, data, request.user)
            results.append(result)
            if result.log:
                row = result.log_row or target
                LogEntry.objects.log_actions(
                    request.user.pk, [row], action.log_flag, change_message=result.log, single_object=True
                )
        level = messages.SUCCESS if any(result.log for result in results) else messages.WARNING
        self.message_user(request, self.summarize_results(results), level)
        return results

    def _respond_missing(self, request: HttpRequest, pk: Any) -> HttpResponse:
        if not self.redirects_if_missing:
            raise Http404
        return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))  # type: ignore[attr-defined, no-any-return]


def check_permission(request: HttpRequest, action: ConfirmedAction[Any]) -> None:
    """Respond with 403 to users without the action's permission."""
    if not request.user.has_perm(action.permission):
        raise PermissionDenied


def build_form(request: HttpRequest, action: ConfirmedAction[Any], targets: Sequence[Any]) -> forms.Form:
    """Return the action's form, bound on POST."""
    return action.form(request.POST if request.method == "POST" else None, targets=targets)
