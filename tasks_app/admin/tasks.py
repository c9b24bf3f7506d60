"""The list of tasks and a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from tasks_app.admin import columns, task_detail
from tasks_app.admin.actions.cloning import CloneTaskAdmin
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

# Unfold has no types; its list has the interface of Django's.
if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
else:
    from unfold.views import ChangeList


class TaskChangeList(ChangeList):
    """A page of tasks; the running ones are as far as Redis knows."""

    older_url = ""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page."""
        super().get_results(request)
        tasks: list[Task] = list(self.result_list)
        apply_live_progress(tasks)
        self.result_list = tasks
        if self.result_count == MAX_COUNTED and tasks:
            self.older_url = self.get_query_string({"before": str(tasks[-1].pk)}, remove=["p"])


@admin.register(Task)
class TaskAdmin(CloneTaskAdmin):
    """Tasks to watch."""

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
    # Any other order would sort all rows; the filters serve instead.
    sortable_by = ()
    paginator = BoundedPaginator
    search_fields = ("params__prompt",)
    search_help_text = "Words of a prompt, or a task's id"
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the page that follows Redis."""
        return TaskChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """Fetch all pictures at once."""
        return super().get_queryset(request).prefetch_related("images")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        """Look for words of prompts, which have an index, and for ids."""
        return (search_tasks(queryset, search_term) if search_term else queryset), False

    def get_fieldsets(self, request: HttpRequest, obj: Task | None = None) -> list[Any]:
        """Return none: the page has a template of its own."""
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
        """Add what the page shows beyond the row."""
        assert obj is not None, "nobody may add tasks"
        context |= task_detail.build_context(obj) | {"may_act": self.has_act_permission(request)}
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description="")
    def thumbnail_column(self, task: Task) -> str:
        """Show the first picture."""
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
        """Show steps and phase."""
        return columns.wrap_live_cell(task, "progress", columns.render_progress_bar(task))

    @admin.display(description="worker")
    def worker_name(self, task: Task) -> str:
        """Show who runs it."""
        return columns.wrap_live_cell(task, "worker", columns.render_worker(task))

    @admin.display(description="duration")
    def duration_column(self, task: Task) -> str:
        """Show how long it took, or has taken so far."""
        return columns.wrap_live_cell(task, "duration", columns.format_duration(columns.get_duration(task)))

    @admin.display(description="created")
    def created_column(self, task: Task) -> str:
        """Show how long ago it came."""
        return columns.render_created(task)
