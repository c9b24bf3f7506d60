"""Worker list and worker page: read-only, and never older than a heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin

from tasks_app.admin import columns
from tasks_app.admin.actions import commands
from tasks_app.admin.actions.pause_actions import build_pause_button, build_pause_column
from tasks_app.admin.live import apply_live_progress
from tasks_app.admin.task_detail import DetailRow
from tasks_app.models import Pause, Task, Worker
from tasks_app.queue import workers as worker_registry
from tasks_app.queue.workers import WorkerState

# Unfold has no type hints; its admin and its change list have the same interfaces as Django's.
if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList

    WorkerModelAdmin = admin.ModelAdmin[Worker]
else:
    from unfold.views import ChangeList

    WorkerModelAdmin = ModelAdmin

# The latest tasks on a worker's page.
MAX_TASKS_SHOWN = 10
GIB = 2**30
_BADGES = {
    WorkerState.STOPPED: "default",
    WorkerState.DEAD: "danger",
    WorkerState.DRAINING: "warning",
    WorkerState.PAUSED: "warning",
    WorkerState.BUSY: "info",
    WorkerState.IDLE: "success",
}


class WorkerChangeList(ChangeList):
    """A page of workers with the tasks that they run, updated with live progress from Redis."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page, and the tasks of all its workers at once."""
        super().get_results(request)
        workers: list[Any] = list(self.result_list)
        tasks = Task.objects.in_bulk([worker.task_id for worker in workers if worker.task_id])
        apply_live_progress(tasks.values())
        for worker in workers:
            worker.task = tasks.get(worker.task_id)
        self.result_list = workers


@admin.register(Worker)
class WorkerAdmin(WorkerModelAdmin):
    """Admin of the workers: view, pause and resume them."""

    list_display = (
        "worker_column",
        "state_column",
        "device_column",
        "memory_column",
        "warm_column",
        "task_column",
        "seen_column",
    )
    list_display_links = None
    list_fullwidth = True
    change_list_template = "admin/tasks_app/steering/change_list.html"
    list_before_template = "admin/tasks_app/worker/before_list.html"
    sortable_by = ()
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: workers register themselves."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        """Refuse: a worker writes its own row."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        """Refuse: rows of workers that are gone are removed automatically."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        """Return all workers with their states."""
        return worker_registry.list_workers()

    def get_ordering(self, request: HttpRequest) -> Any:
        """Order live workers first: without this, Django would drop the ordering of `list_workers`."""
        return ["is_gone", "host", "name"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the change list that shows running tasks."""
        return WorkerChangeList

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the column that pauses or resumes a worker."""
        return [*self.list_display, build_pause_column(request, _get_pause_target)]

    def get_fieldsets(self, request: HttpRequest, obj: Worker | None = None) -> list[Any]:
        """Return no fieldsets: the page has its own template."""
        return []

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Add the variables of the page's template."""
        context |= _build_page_context(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description="worker")
    def worker_column(self, worker: Worker) -> str:
        """Show the worker's name, host and process."""
        address = reverse("admin:tasks_app_worker_change", args=[quote(worker.pk)])
        link = '<a class="steer-name text-link" href="{}" title="{name}">{name}</a>'
        more = '<small class="steer-more" title="{where}">{where}</small>'
        where = f"{worker.host}, process {worker.pid}"
        return format_html(link + more, address, name=worker.name, where=where)

    @admin.display(description="state")
    def state_column(self, worker: Any) -> str:
        """Show the worker's state in its color."""
        return _render_state_badge(worker.state)

    @admin.display(description="device")
    def device_column(self, worker: Worker) -> str:
        """Show the worker's device."""
        return _render_device(worker)

    @admin.display(description="memory")
    def memory_column(self, worker: Any) -> str:
        """Show the used and total memory of the device."""
        return _render_memory(worker)

    @admin.display(description="warm")
    def warm_column(self, worker: Any) -> str:
        """Show the loaded models."""
        return _render_warm_models(worker)

    @admin.display(description="task")
    def task_column(self, worker: Any) -> str:
        """Show the running task."""
        return _render_task(worker.task)

    @admin.display(description="seen")
    def seen_column(self, worker: Worker) -> str:
        """Show the time since the worker last wrote its row, and its version."""
        return format_html(
            '{}<small class="steer-more">version {}</small>', columns.render_time_since(worker.seen_at), worker.version
        )


def _get_pause_target(worker: Any) -> tuple[Pause.Scope, str, bool]:
    return Pause.Scope.WORKER, worker.name, worker.is_paused


def _build_page_context(request: HttpRequest, worker: Any) -> dict[str, Any]:
    running = Task.objects.filter(pk=worker.task_id).first()
    apply_live_progress([running] if running else [])
    tasks = list(Task.objects.filter(worker=worker.name).prefetch_related("images")[:MAX_TASKS_SHOWN])
    return {
        "worker": worker,
        "badge": _render_state_badge(worker.state),
        "running": _render_task(running),
        "memory": _render_memory(worker),
        "seen": columns.render_time_since(worker.seen_at),
        "button": build_pause_button(request, Pause.Scope.WORKER, worker.name, paused=worker.is_paused),
        "rows": list(_build_rows(worker)),
        "commands": commands.get_latest_commands(worker=worker.pk),
        "tasks": [_TaskRow(task) for task in tasks],
    }


class _TaskRow:
    """A task in the table on the worker's page."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.thumbnail, self.prompt, self.model = (
            columns.render_thumbnail(task),
            columns.render_prompt(task),
            columns.render_model(task),
        )
        self.badge, self.duration, self.age = (
            columns.render_status_badge(task),
            columns.format_duration(columns.get_duration(task)),
            columns.render_created(task),
        )


def _build_rows(worker: Any) -> list[DetailRow]:
    return [
        DetailRow(label="Host", value=worker.host, hint=f"process {worker.pid}"),
        DetailRow(label="Device", value=worker.device, hint=worker.device_name),
        DetailRow(label="Warm models", value=_render_warm_models(worker)),
        DetailRow(label="Version", value=worker.version),
        DetailRow(label="Started", value=columns.format_time(worker.started_at)),
        DetailRow(label="Seen", value=columns.format_time(worker.seen_at)),
        DetailRow(label="Stopped", value=columns.format_time(worker.left_at)),
    ]


def _render_state_badge(state: str) -> str:
    return columns.render_label(state, _BADGES[WorkerState(state)])


def _render_device(worker: Worker) -> str:
    if not worker.device:
        return format_html('<span class="task-quiet" title="{}">–</span>', "Not initialised until the first task.")
    return format_html('{0}<small class="steer-more" title="{1}">{1}</small>', worker.device, worker.device_name)


def _render_memory(worker: Any) -> str:
    if not worker.memory_total or worker.state not in worker_registry.ALIVE_STATES:
        return "–"
    percent = 100 * worker.memory_used / worker.memory_total
    context = {"percent": percent, "used": worker.memory_used / GIB, "total": worker.memory_total / GIB}
    return render_to_string("admin/tasks_app/worker/memory.html", context)


def _render_warm_models(worker: Any) -> str:
    names = [(model["model_id"],) for model in worker.warm] if worker.state in worker_registry.ALIVE_STATES else []
    return format_html_join("", '<span class="steer-model">{}</span>', names) or "–"


def _render_task(task: Task | None) -> str:
    if task is None:
        return "–"
    address = reverse("admin:tasks_app_task_change", args=[task.pk])
    return format_html('<a href="{}">{}</a>{}', address, columns.render_prompt(task), columns.render_progress_bar(task))
