"""Task list and task page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from tasks_app.admin import columns, task_detail
from tasks_app.admin.actions.cloning import CloneTaskAdmin
from tasks_app.admin.actions.task_actions import TASK_ACTIONS
from tasks_app.admin.live import apply_live_progress
from tasks_app.admin.task_list import (
    MAX_COUNTED,
    BeforeFilter,
    BoundedPaginator,
    ErrorCodeFilter,
    ModelFilter,
    WorkerFilter,
    search_tasks,
)
from tasks_app.models import Task

# Unfold has no type hints; its change list has the same interface as Django's.
if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
else:
    from unfold.views import ChangeList


class TaskChangeList(ChangeList):
    """A page of tasks, the running ones updated with live progress from Redis."""

    older_url = ""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page, and link to older tasks if the count has reached its bound."""
        super().get_results(request)
        tasks: list[Task] = list(self.result_list)
        apply_live_progress(tasks)
        self.result_list = tasks
        if self.result_count == MAX_COUNTED and tasks:
            self.older_url = self.get_query_string({"before": str(tasks[-1].pk)}, remove=["p"])


@admin.register(Task)
class TaskAdmin(CloneTaskAdmin):
    """Admin of the tasks."""

    list_display = (
        "thumbnail_column",
        "prompt_column",
        "model_name",
        "status_badge",
        "progress_column",
        "worker_name",
        "duration_column",
        "created_column",
    )
    list_display_links = ("thumbnail_column", "prompt_column")
    list_filter = ("status", ModelFilter, WorkerFilter, "created_at", ErrorCodeFilter, BeforeFilter)
    list_fullwidth = True
    list_per_page = 100
    list_after_template = "admin/tasks_app/task/after_list.html"
    ordering = ("-created_at", "-id")
    # Any other order would sort all rows; use the filters instead.
    sortable_by = ()
    paginator = BoundedPaginator
    search_fields = ("params__prompt",)
    search_help_text = "Words of a prompt, or a task's id"
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the change list with live progress."""
        return TaskChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """Prefetch the images of all tasks."""
        return super().get_queryset(request).prefetch_related("images")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        """Search for words of prompts, which are indexed, and for ids."""
        return (search_tasks(queryset, search_term) if search_term else queryset), False

    def get_fieldsets(self, request: HttpRequest, obj: Task | None = None) -> list[Any]:
        """Return no fieldsets: the page has its own template."""
        return []

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Task | None = None,
    ) -> HttpResponse:
        """Add the contents of the page beyond the row."""
        assert obj is not None, "nobody may add tasks"
        buttons = [action.build_button(request, obj.pk) for action in TASK_ACTIONS if action.is_applicable(obj)]
        context |= task_detail.build_context(obj) | {"may_act": self.has_act_permission(request), "buttons": buttons}
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description="")
    def thumbnail_column(self, task: Task) -> str:
        """Show the thumbnail of the first image."""
        return columns.wrap_live_cell(task, "thumbnail", columns.render_thumbnail(task))

    @admin.display(description="prompt")
    def prompt_column(self, task: Task) -> str:
        """Show the beginning of the prompt."""
        return columns.render_prompt(task)

    @admin.display(description="model")
    def model_name(self, task: Task) -> str:
        """Show the model without its owner."""
        return columns.render_model(task)

    @admin.display(description="status")
    def status_badge(self, task: Task) -> str:
        """Show the status in its color."""
        return columns.wrap_live_cell(task, "status", columns.render_status_badge(task))

    @admin.display(description="progress")
    def progress_column(self, task: Task) -> str:
        """Show the steps and the phase."""
        return columns.wrap_live_cell(task, "progress", columns.render_progress_bar(task))

    @admin.display(description="worker")
    def worker_name(self, task: Task) -> str:
        """Show the worker that runs the task, or ran it last."""
        return columns.wrap_live_cell(task, "worker", columns.render_worker(task))

    @admin.display(description="duration")
    def duration_column(self, task: Task) -> str:
        """Show the duration of the last attempt, up to now if it is running."""
        return columns.wrap_live_cell(task, "duration", columns.format_duration(columns.get_duration(task)))

    @admin.display(description="created")
    def created_column(self, task: Task) -> str:
        """Show the time since the task was created."""
        return columns.render_created(task)
