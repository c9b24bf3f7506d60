"""Contents of a task's page beyond the row itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from tasks_app.admin.columns import (
    SMALL_IMAGE_PIXELS,
    format_duration,
    format_time,
    get_duration,
    get_prompt,
    image_url,
    render_progress_bar,
    render_status_badge,
)
from tasks_app.admin.live import apply_live_progress
from tasks_app.contracts import Event
from tasks_app.events import progress
from tasks_app.models import TERMINAL, Phase, Task, TaskImage
from tasks_app.queue import pauses

# Width in pixels that small images are enlarged to: a single image, and several, of which two fit side by side.
SINGLE_IMAGE_PIXELS = 384
MULTIPLE_IMAGES_PIXELS = 288
# Labels of parameters whose name alone would read oddly.
_LABELS = {"loras": "LoRAs", "num_images": "Images"}


@dataclass(frozen=True, kw_only=True)
class DetailRow:
    """A row of a table."""

    label: str
    value: object
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the successful run; `percent` is its share of the total time."""

    name: str
    seconds: float
    percent: float


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """A change of the task's status or phase, taken from its event stream."""

    at: datetime
    text: str

    @property
    def clock(self) -> str:
        """Return the time of day to the millisecond."""
        return timezone.localtime(self.at).isoformat(timespec="milliseconds")[11:23]


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image in full size. `shown_width` is in pixels; None leaves the width to the page."""

    image: TaskImage
    url: str
    shown_width: int | None


def build_context(task: Task) -> dict[str, Any]:
    """Return the variables of the page's template, and update a running task to its live progress."""
    live = apply_live_progress([task]).get(task.pk, {})
    trail = progress.read_streams([task.pk], after="0-0").get(task.pk)
    return {
        "task": task,
        "prompt": get_prompt(task),
        "badge": render_status_badge(task),
        "progress_bar": render_progress_bar(task, paused=pauses.is_task_paused(task, pauses.list_active_pauses())),
        "remaining": _format_remaining(live),
        "preview": trail and trail.preview and trail.preview.data,
        "events": list(_build_timeline(trail.since)) if trail else [],
        "images": list(_build_shown_images(task)),
        "parameters": list(_build_parameter_rows(task)),
        "times": list(_build_time_rows(task)),
        "bars": list(_build_stages(task)),
        "lifecycle": list(_build_lifecycle_rows(task)),
        "attempts": list(_build_attempt_rows(task)),
        "webhook": list(_build_webhook_rows(task)),
        "provenance": list(_build_provenance_rows(task)),
        "warnings": [
            DetailRow(label=warning["field"] or "Request", value=warning["message"], hint=warning["code"])
            for warning in task.warnings
        ],
        "reproduction": list(_build_reproduction_rows(task)),
        **_get_descendants(task),
        "has_ended": task.status in TERMINAL,
    }


def _format_remaining(live: dict[str, Any]) -> str:
    if live.get("bytes_total"):
        return f"{live['bytes_done'] / 1e6:.0f} of {live['bytes_total'] / 1e6:.0f} MB"
    seconds = live.get("eta_seconds")
    return "" if seconds is None else f"about {format_duration(timedelta(seconds=seconds))} left"


def _build_timeline(events: Iterable[Event]) -> Iterator[TimelineEntry]:
    """Yield the changes of status and phase; the events in between are steps and are skipped."""
    phase = None
    for event in events:
        at = datetime.fromtimestamp(int(event.entry.partition("-")[0]) / 1000, tz=UTC)
        if event.name == "status":
            phase = None
            attempt = event.data.get("attempt")
            yield TimelineEntry(at=at, text=str(event.data["status"]) + (f", attempt {attempt}" if attempt else ""))
        elif event.data.get("phase") != phase:
            phase = event.data.get("phase")
            yield TimelineEntry(at=at, text=str(phase))


def _build_shown_images(task: Task) -> Iterator[ShownImage]:
    images = task.images.all()
    room = SINGLE_IMAGE_PIXELS if len(images) == 1 else MULTIPLE_IMAGES_PIXELS
    for image in images:
        longer = max(image.width, image.height)
        # Enlarge by a whole factor: otherwise some pixels would look larger than others.
        enlarged = image.width * (room // longer) if longer <= SMALL_IMAGE_PIXELS else None
        yield ShownImage(image=image, url=image_url(image), shown_width=enlarged)


def _format_addon(one: str | dict[str, Any]) -> str:
    """Return an embedding's name, or a LoRA's with its weight."""
    return one if isinstance(one, str) else f"{one['id']} × {one['weight']:g}"


def _format_value(value: object, uploads: Collection[str]) -> object:
    """Return a parameter's value for display; an upload that still exists is shown as its image."""
    if isinstance(value, list):
        return ", ".join(map(_format_addon, value))
    if str(value) not in uploads:
        return value
    url = reverse("upload-image", args=[value])
    return format_html('<a href="{0}"><img class="task-begun" src="{0}" alt="{1}"></a>', url, value)


def _build_parameter_rows(task: Task) -> Iterator[DetailRow]:
    uploads = {str(pk) for pk in task.uploads.values_list("pk", flat=True)} if "image" in task.params else set()
    if task.requested_model_id != task.model_id:
        yield DetailRow(label="Requested model", value=task.requested_model_id)
    yield DetailRow(label="Model", value=task.model_id)
    yield DetailRow(label="Revision", value=task.revision)
    yield DetailRow(label="Task type", value=task.task_type)
    yield DetailRow(label="Provider", value=task.provider)
    for name, value in task.params.items():
        if name != "prompt":
            label = _LABELS.get(name) or name.replace("_", " ").capitalize()
            yield DetailRow(label=label, value=_format_value(value, uploads))
    yield DetailRow(label="Seed", value=task.seed)
    yield DetailRow(label="Priority", value=task.priority)


def _build_time_rows(task: Task) -> Iterator[DetailRow]:
    waited = None if task.started_at is None else task.started_at - task.created_at
    yield DetailRow(label="Created", value=format_time(task.created_at))
    yield DetailRow(label="Started", value=format_time(task.started_at))
    yield DetailRow(label="Finished", value=format_time(task.finished_at))
    yield DetailRow(label="Waited", value=format_duration(waited), hint="until its last attempt")
    yield DetailRow(label="Duration", value=format_duration(get_duration(task)))


def _build_stages(task: Task) -> Iterator[Stage]:
    whole = sum(task.timings.values())
    # The database does not preserve the order of keys.
    known = [phase for phase in Phase.values if phase in task.timings]
    for name, seconds in {**dict.fromkeys(known), **task.timings}.items():
        yield Stage(name=name, seconds=seconds, percent=100 * seconds / whole if whole else 0)


def _build_lifecycle_rows(task: Task) -> Iterator[DetailRow]:
    yield DetailRow(label="Id", value=task.pk)
    yield DetailRow(label="Attempt", value=task.attempt)
    yield DetailRow(label="Lost workers", value=f"{task.lost_workers} of {task.max_lost_workers}")
    yield DetailRow(label="Worker", value=task.worker)
    yield DetailRow(label="Lease until", value=format_time(task.lease_until))
    yield DetailRow(label="Deadline", value=format_time(task.deadline))
    yield DetailRow(label="Cancel requested", value=format_time(task.cancel_requested_at))
    yield DetailRow(label="Last re-sent", value=format_time(task.woken_at))
    yield DetailRow(label="Updated", value=format_time(task.updated_at))


def _build_provenance_rows(task: Task) -> Iterator[DetailRow]:
    for name, value in sorted(task.provenance.items()):
        yield DetailRow(label=name, value=value)


def _build_reproduction_rows(task: Task) -> Iterator[DetailRow]:
    if task.reproduction is None:
        return
    yield DetailRow(label="Verdict", value=task.reproduction["verdict"])
    for image in task.reproduction["images"]:
        hint = "the same file" if image["identical_file"] else image["psnr"] and f"PSNR {image['psnr']} dB"
        yield DetailRow(label=f"Image {image['index']}", value=image["verdict"], hint=hint or "")
    for name, (then, now) in task.reproduction["differences"].items():
        yield DetailRow(label=name, value=f"{then or 'unknown'} → {now or 'unknown'}", hint="differs")


def _get_descendants(task: Task) -> dict[str, list[Task]]:
    """Return the retries and the reproductions of this task."""
    made = list(Task.objects.filter(Q(retried_from=task) | Q(reproduces=task)).order_by("created_at"))
    return {
        "retries": [one for one in made if one.retried_from_id == task.pk],
        "reproductions": [one for one in made if one.reproduces_id == task.pk],
    }


def _build_webhook_rows(task: Task) -> Iterator[DetailRow]:
    if not task.webhook_url:
        return
    yield DetailRow(label="URL", value=task.webhook_url)
    yield DetailRow(label="Events", value=", ".join(task.webhook_events))
    for delivery in task.deliveries.all():
        address = reverse("admin:tasks_app_webhookdelivery_change", args=[delivery.pk])
        link = format_html('<a class="text-link" href="{}">{}</a>', address, delivery.get_state_display())
        yield DetailRow(label=delivery.get_event_display(), value=link, hint=delivery.last_error)


def _build_attempt_rows(task: Task) -> Iterator[DetailRow]:
    for attempt in task.attempts.all():
        lasted = attempt.ended_at and format_duration(attempt.ended_at - attempt.started_at)
        hint = f"{attempt.worker}, {format_time(attempt.started_at)}" + (f", {lasted}" if lasted else "")
        yield DetailRow(label=str(attempt.number), value=attempt.get_outcome_display() or "runs", hint=hint)
