"""Read-only task admin whose confirmed actions run for one task, or for many selected in the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from tasks_app.admin import columns
from tasks_app.admin.actions.confirmed_action import ActionResult, ConfirmedAction
from tasks_app.admin.actions.task_actions import CHANGE_PERMISSION, TASK_ACTIONS
from tasks_app.admin.actions.views import ConfirmedActionsAdmin, build_form, check_permission
from tasks_app.models import Task

# A form can't hold many more, and each task takes a transaction of its own.
MAX_SELECTED = 500


@dataclass(frozen=True, kw_only=True)
class SelectedTask:
    """A selected task on the confirmation page; `is_applicable` is False if the action would not change it."""

    task: Task
    thumbnail: str
    prompt: str
    model: str
    badge: str
    is_applicable: bool


class TaskActionsAdmin(ConfirmedActionsAdmin):
    """Task admin with confirmed actions; tasks can't be edited otherwise."""

    confirmed_actions = TASK_ACTIONS
    target_route = "<uuid:pk>/"
    # A task may have been deleted by this same form.
    redirects_if_missing = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: tasks are submitted through the API."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        """Refuse: saving a form would overwrite a worker's concurrent update."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        """Refuse: Django's deletion would leave the image files behind."""
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Require Django's permission to change tasks, which includes viewing them."""
        return request.user.has_perm(CHANGE_PERMISSION)

    def get_urls(self) -> list[URLPattern]:
        """Add each action's URL for the selected tasks."""
        view = self.admin_site.admin_view(self.confirm_many_view)
        own = [path(f"{each.name}/", view, {"action": each}, name=f"{each.url_name}_many") for each in TASK_ACTIONS]
        return [*own, *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer the confirmed actions that the user has permission for."""
        return {
            name: (partial(type(self).confirm_selected, action=action), name, f"{action.title} …")
            for action in TASK_ACTIONS
            if request.user.has_perm(action.permission)
            for name in [f"{action.name}_chosen"]
        }

    def confirm_selected(
        self, request: HttpRequest, queryset: QuerySet[Task], *, action: ConfirmedAction[Task]
    ) -> HttpResponse | None:
        """Show the confirmation for the tasks selected in the list."""
        if queryset.count() > MAX_SELECTED:
            self.message_user(request, f"Choose at most {MAX_SELECTED} tasks at a time.", messages.ERROR)
            return None
        tasks = list(queryset)
        back, post_url = self._get_list_url(request), self._get_list_url(request, f"{action.url_name}_many")
        return self.render_confirmation(
            request, action, tasks, action.form(targets=tasks), back=back, post_url=post_url
        )

    def confirm_many_view(self, request: HttpRequest, action: ConfirmedAction[Task]) -> HttpResponse:
        """Run the action for the tasks that the confirmation listed."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        check_permission(request, action)
        tasks = list(self._get_tasks(request, request.POST.getlist("task")))
        back, form = self._get_list_url(request), build_form(request, action, tasks)
        if not form.is_valid():
            return self.render_confirmation(request, action, tasks, form, back=back)
        self.run_action(request, action, tasks, form.cleaned_data)
        return HttpResponseRedirect(back)

    def get_confirmation_context(self, action: ConfirmedAction[Task], targets: Sequence[Task]) -> dict[str, Any]:
        """Return a question with the number of tasks that would change, and the table of all."""
        selected = [_build_selected_task(action, task) for task in targets]
        count = sum(each.is_applicable for each in selected)
        target = f"{count} task{'' if count == 1 else 's'}"
        return {"title": action.question.format(title=action.title, target=target), "selected": selected}

    def summarize_results(self, results: Sequence[ActionResult]) -> str:
        """Return a sentence with the number of tasks for each result."""
        counts = Counter(result.message for result in results)
        return (", ".join(f"{count} {message}" for message, count in counts.items()) or "No task was selected") + "."

    def _get_tasks(self, request: HttpRequest, ids: Iterable[str]) -> QuerySet[Task]:
        try:
            wanted = [UUID(task_id) for task_id in ids]
        except ValueError:
            raise BadRequest("Not a list of task ids.") from None
        # Oldest first, so that retried tasks keep their order.
        return self.get_queryset(request).filter(pk__in=wanted).order_by("created_at", "pk")

    def _get_list_url(self, request: HttpRequest, name: str = "tasks_app_task_changelist") -> str:
        """Return the list's or an action's URL with the list's current filters."""
        filters: dict[str, Any] = {"opts": self.opts, "preserved_filters": self.get_preserved_filters(request)}
        return str(add_preserved_filters(filters, reverse(f"admin:{name}")))


def _build_selected_task(action: ConfirmedAction[Task], task: Task) -> SelectedTask:
    return SelectedTask(
        task=task,
        thumbnail=columns.render_thumbnail(task),
        prompt=columns.render_prompt(task),
        model=columns.render_model(task),
        badge=columns.render_status_badge(task),
        is_applicable=action.is_applicable(task),
    )
