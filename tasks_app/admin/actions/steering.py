"""Read-only task admin with actions: each asks for confirmation, runs on POST only and is logged with the user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin

from tasks_app.admin import columns, log
from tasks_app.admin.actions.confirmed import (
    CANCEL,
    REMOVE,
    REPRIORITIZE,
    REPRODUCE,
    RETRY,
    TASK_ACTIONS,
    ActionResult,
    FormData,
    TaskAction,
    summarize_results,
)
from tasks_app.models import Task

# Unfold has no type hints; its admin has the same interface as Django's.
if TYPE_CHECKING:
    TaskModelAdmin = admin.ModelAdmin[Task]
else:
    TaskModelAdmin = ModelAdmin

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


class TaskActionsAdmin(TaskModelAdmin):
    """Task admin with confirmed actions; tasks can't be edited otherwise."""

    actions = ("cancel_chosen", "reprioritize_chosen", "retry_chosen", "reproduce_chosen", "remove_chosen")

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
        return request.user.has_perm("tasks_app.change_task")

    def has_remove_permission(self, request: HttpRequest) -> bool:
        """Require Django's permission to delete tasks."""
        return request.user.has_perm("tasks_app.delete_task")

    def get_urls(self) -> list[URLPattern]:
        """Add each action's two URLs before Django's own."""
        view = self.admin_site.admin_view
        own = []
        for deed in TASK_ACTIONS:
            name = f"tasks_app_task_{deed.name}"
            own.append(path(f"<uuid:task_id>/{deed.name}/", view(self.one_task_view), {"deed": deed}, name=name))
            own.append(path(f"{deed.name}/", view(self.many_tasks_view), {"deed": deed}, name=f"{name}_many"))
        return [*own, *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any) -> HttpResponse:
        """Offer the actions that the user has permission for."""
        context["deeds"] = [deed for deed in context["deeds"] if request.user.has_perm(deed.permission)]
        return super().render_change_form(request, context, *args)

    @admin.action(description="Cancel …", permissions=["act"])
    def cancel_chosen(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        """Show the confirmation to cancel the selected tasks."""
        return self._confirm_many(request, CANCEL, queryset)

    @admin.action(description="Reprioritize …", permissions=["act"])
    def reprioritize_chosen(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        """Show the confirmation to change the priority of the selected tasks."""
        return self._confirm_many(request, REPRIORITIZE, queryset)

    @admin.action(description="Retry …", permissions=["act"])
    def retry_chosen(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        """Show the confirmation to queue the selected tasks again."""
        return self._confirm_many(request, RETRY, queryset)

    @admin.action(description="Reproduce …", permissions=["act"])
    def reproduce_chosen(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        """Show the confirmation to run the selected tasks again and compare the images."""
        return self._confirm_many(request, REPRODUCE, queryset)

    @admin.action(description="Delete …", permissions=["remove"])
    def remove_chosen(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        """Show the confirmation to delete the selected tasks with their images."""
        return self._confirm_many(request, REMOVE, queryset)

    def one_task_view(self, request: HttpRequest, task_id: UUID, deed: TaskAction) -> HttpResponse:
        """Show the confirmation for one task on GET; run the action on POST."""
        task = self._get_tasks(request, deed, [task_id]).first()
        if task is None:
            # The task was deleted, perhaps by this same form: Django shows a message and redirects.
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(task_id))  # type: ignore[attr-defined, no-any-return]
        form = _build_form(request, deed, priority=task.priority)
        if request.method == "POST" and form.is_valid():
            next_task = self._run_action(request, deed, [task], form.cleaned_data)[0].task
            return HttpResponseRedirect(
                _task_url(next_task) if next_task else self._filtered_url(request, "changelist")
            )
        return self._render_confirmation(
            request, deed, [task], form, action=request.get_full_path(), back=_task_url(task)
        )

    def many_tasks_view(self, request: HttpRequest, deed: TaskAction) -> HttpResponse:
        """Run the action on the tasks that the confirmation listed."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        tasks, form = self._get_tasks(request, deed, request.POST.getlist("task")), _build_form(request, deed)
        back = self._filtered_url(request, "changelist")
        if not form.is_valid():
            return self._render_confirmation(
                request, deed, list(tasks), form, action=request.get_full_path(), back=back
            )
        self._run_action(request, deed, tasks, form.cleaned_data)
        return HttpResponseRedirect(back)

    def _get_tasks(self, request: HttpRequest, deed: TaskAction, ids: Iterable[UUID | str]) -> QuerySet[Task]:
        if not request.user.has_perm(deed.permission):
            raise PermissionDenied
        try:
            wanted = [UUID(str(task_id)) for task_id in ids]
        except ValueError:
            raise BadRequest("These are no task ids.") from None
        # Oldest first, so that retried tasks keep their order.
        return self.get_queryset(request).filter(pk__in=wanted).order_by("created_at", "pk")

    def _confirm_many(self, request: HttpRequest, deed: TaskAction, tasks: QuerySet[Task]) -> HttpResponse | None:
        if tasks.count() > MAX_SELECTED:
            self.message_user(request, f"Choose at most {MAX_SELECTED} tasks at a time.", messages.ERROR)
            return None
        action, back = self._filtered_url(request, f"{deed.name}_many"), self._filtered_url(request, "changelist")
        return self._render_confirmation(request, deed, list(tasks), deed.form(), action=action, back=back)

    def _render_confirmation(
        self, request: HttpRequest, deed: TaskAction, tasks: list[Task], form: forms.Form, *, action: str, back: str
    ) -> HttpResponse:
        moving = sum(deed.is_applicable(task) for task in tasks)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{deed.title} {moving} task{'' if moving == 1 else 's'}?",
            "deed": deed,
            "form": form,
            "moving": moving,
            "choices": [_build_selected_task(deed, task) for task in tasks],
            "action": action,
            "back": back,
        }
        return TemplateResponse(request, "admin/tasks_app/task/confirm.html", context)

    def _run_action(
        self, request: HttpRequest, deed: TaskAction, tasks: Iterable[Task], given: FormData
    ) -> list[ActionResult]:
        results = []
        for task in tasks:
            result = deed.run(task, given)
            results.append(result)
            if result.log:
                log.write_entry(request, task, result.log, deed.flag)
        level = messages.SUCCESS if any(result.log for result in results) else messages.WARNING
        self.message_user(request, summarize_results(results), level)
        return results

    def _filtered_url(self, request: HttpRequest, view: str) -> str:
        """Return one of the list's URLs with the current filters."""
        filters: dict[str, Any] = {"opts": self.opts, "preserved_filters": self.get_preserved_filters(request)}
        return str(add_preserved_filters(filters, reverse(f"admin:tasks_app_task_{view}")))


def _build_form(request: HttpRequest, deed: TaskAction, **initial: Any) -> forms.Form:
    return deed.form(request.POST if request.method == "POST" else None, initial=initial)


def _task_url(task: Task) -> str:
    return reverse("admin:tasks_app_task_change", args=[task.pk])


def _build_selected_task(deed: TaskAction, task: Task) -> SelectedTask:
    return SelectedTask(
        task=task,
        thumbnail=columns.render_thumbnail(task),
        prompt=columns.render_prompt(task),
        model=columns.render_model(task),
        badge=columns.render_status_badge(task),
        is_applicable=deed.is_applicable(task),
    )
