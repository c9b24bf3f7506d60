"""Dashboard on the admin's index page: queue, throughput, durations, failures, workers and warm models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.http import urlencode

from tasks_app.admin import columns
from tasks_app.admin.actions.pause_actions import build_pause_button
from tasks_app.admin.live import apply_live_progress
from tasks_app.models import DiffusionModel, Pause, Status, Task, TaskImage, Worker
from tasks_app.queue import pauses, statistics
from tasks_app.queue import workers as worker_registry
from tasks_app.queue.statistics import WINDOWS, TimeBucket, TimeWindow
from tasks_app.queue.workers import WorkerState

MAX_IMAGES_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A labeled figure; `hint` adds details."""

    label: str
    value: str
    hint: str = ""
    alarming: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerRow:
    """A worker and the task that it runs, if any."""

    worker: Worker
    state: str
    task: Task | None
    prompt: str
    bar: str


def build_dashboard_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the dashboard's variables to those of the admin's index page, for users with permission to view tasks."""
    if not any(request.user.has_perm(f"tasks_app.{verb}_task") for verb in ("view", "change")):
        return context
    names = {window.name: window for window in WINDOWS}
    window = names.get(request.GET.get("window", ""), WINDOWS[1])
    pieces = statistics.list_time_buckets(window, timezone.now())
    return context | {
        "dashboard": True,
        "title": "Dashboard",
        "window": window,
        "windows": WINDOWS,
        "tiles": list(_build_tiles(window, pieces)),
        "series": _build_chart_series(pieces, window),
        "failures": _build_failure_rows(window),
        "workers": _build_worker_rows(),
        "warm": _build_warm_model_rows(),
        "newest": _get_newest_images(),
        "pause": build_pause_button(request, Pause.Scope.QUEUE, paused=pauses.is_paused(Pause.Scope.QUEUE)),
    }


def _build_tiles(window: TimeWindow, pieces: list[TimeBucket]) -> Iterable[Tile]:
    queue = statistics.get_queue_summary()
    waiting = "–" if queue.oldest is None else columns.format_duration(timezone.now() - queue.oldest)
    succeeded, failed = (sum(getattr(piece, name) for piece in pieces) for name in ("succeeded", "failed"))
    rate = succeeded / (window.length.total_seconds() / 3600)
    share = 100 * failed / (succeeded + failed) if succeeded + failed else 0
    hint = f"oldest waiting {waiting}" if queue.oldest else "queue empty"
    yield Tile(label="Queued", value=f"{queue.queued:,}", hint=hint)
    yield Tile(label="Running", value=f"{queue.running:,}")
    yield Tile(label="Throughput", value=f"{rate:,.1f}", hint=f"per hour ({window.name} average)")
    yield Tile(label="Succeeded", value=f"{succeeded:,}", hint=f"in {window.name}")
    yield Tile(label="Failed", value=f"{failed:,}", hint=f"{share:.1f} % in {window.name}", alarming=bool(failed))


def _build_chart_series(pieces: list[TimeBucket], window: TimeWindow) -> dict[str, Any]:
    """Return the data of the charts: a list of values for each line or stack of bars."""
    spelled = "%a %H:%M" if window.length > timedelta(days=1) else "%H:%M"
    names = ("succeeded", "failed", "canceled", "run_p50", "run_p95", "wait_p50", "wait_p95")
    return {
        "labels": [timezone.localtime(piece.start).strftime(spelled) for piece in pieces],
        **{name: [getattr(piece, name) for piece in pieces] for name in names},
    }


def _build_failure_rows(window: TimeWindow) -> list[dict[str, Any]]:
    counts = statistics.count_failures(window)
    most = max(counts.values(), default=1)
    return [
        {
            "code": code.replace("_", " "),
            "count": count,
            "percent": 100 * count / most,
            "query": urlencode({"status__exact": Status.FAILED, "error_code": code}),
        }
        for code, count in counts.items()
    ]


def _build_worker_rows() -> list[WorkerRow]:
    workers = [worker for worker in worker_registry.list_workers() if worker.state != WorkerState.STOPPED]
    alive = {worker.name for worker in workers if worker.state in worker_registry.ALIVE_STATES}
    tasks = list(Task.objects.filter(status=Status.RUNNING, worker__in=alive))
    apply_live_progress(tasks)
    by_worker = {task.worker: task for task in tasks}
    return [_build_worker_row(worker, worker.state, by_worker.get(worker.name)) for worker in workers]


def _build_worker_row(worker: Worker, state: str, task: Task | None) -> WorkerRow:
    return WorkerRow(
        worker=worker,
        state=state,
        task=task,
        prompt="" if task is None else columns.render_prompt(task),
        bar="" if task is None else columns.render_progress_bar(task),
    )


def _build_warm_model_rows() -> list[dict[str, Any]]:
    warm = worker_registry.get_workers_by_model()
    paused = set(Pause.objects.filter(scope=Pause.Scope.MODEL).values_list("target", flat=True))
    rows = list(DiffusionModel.objects.filter(allowed=True))
    rows.sort(key=lambda row: (row.model_id not in warm, row.model_id))
    return [{"row": row, "on": warm.get(row.model_id, []), "paused": row.model_id in paused} for row in rows]


def _get_newest_images() -> list[dict[str, Any]]:
    images = TaskImage.objects.filter(purged_at=None).select_related("task").order_by("-pk")[:MAX_IMAGES_SHOWN]
    return [
        {"image": image, "url": columns.thumbnail_url(image), "prompt": columns.get_prompt(image.task)}
        for image in images
    ]
