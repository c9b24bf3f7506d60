"""What a task's page shows, beyond the row itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from tasks_app.admin.actions.confirmed import DEEDS
from tasks_app.admin.columns import SMALL, badge, duration, image_url, moment, progress_bar, prompt, spell
from tasks_app.admin.live import follow
from tasks_app.contracts import Event
from tasks_app.events import progress
from tasks_app.models import TERMINAL, Phase, Task, TaskImage
from tasks_app.queue import pauses

# How wide in pixels small pictures are enlarged to: one alone, and several of which two fit side by side.
ALONE = 384
SEVERAL = 288
# What a parameter is called where its name alone would read oddly.
_LABELS = {"loras": "LoRAs", "num_images": "Pictures"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table."""

    label: str
    value: object
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the run that ended well; `percent` is its share of all stages."""

    name: str
    seconds: float
    percent: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Something that happened to the task, as its event stream tells it."""

    at: datetime
    text: str

    @property
    def clock(self) -> str:
        """The time of day to the millisecond."""
        return timezone.localtime(self.at).isoformat(timespec="milliseconds")[11:23]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture in full. `shown_width` is in pixels; None leaves it to the page."""

    image: TaskImage
    url: str
    shown_width: int | None


def context(task: Task) -> dict[str, Any]:
    """Return the variables of the page's template; a running task is brought up to date."""
    live = follow([task]).get(task.pk, {})
    trail = progress.trails([task.pk], after="0-0").get(task.pk)
    return {
        "task": task,
        "prompt": prompt(task),
        "badge": badge(task),
        "progress_bar": progress_bar(task, paused=pauses.holds(task, pauses.active())),
        "remaining": _remaining(live),
        "preview": trail and trail.preview and trail.preview.data,
        "events": list(_events(trail.since)) if trail else [],
        "pictures": list(_pictures(task)),
        "parameters": list(_parameters(task)),
        "times": list(_times(task)),
        "bars": list(_stages(task)),
        "lifecycle": list(_lifecycle(task)),
        "attempts": list(_attempts(task)),
        "webhook": list(_webhook(task)),
        "provenance": list(_provenance(task)),
        "reproduction": list(_reproduction(task)),
        **_descendants(task),
        "deeds": [deed for deed in DEEDS if deed.applies(task)],
        "has_ended": task.status in TERMINAL,
    }


def _remaining(live: dict[str, Any]) -> str:
    if live.get("bytes_total"):
        return f"{live['bytes_done'] / 1e6:.0f} of {live['bytes_total'] / 1e6:.0f} MB"
    seconds = live.get("eta_seconds")
    return "" if seconds is None else f"about {spell(timedelta(seconds=seconds))} left"


def _events(events: Iterable[Event]) -> Iterator[Moment]:
    """Return when the status and the phase changed; what lies between are steps."""
    phase = None
    for event in events:
        at = datetime.fromtimestamp(int(event.entry.partition("-")[0]) / 1000, tz=UTC)
        if event.name == "status":
            phase = None
            attempt = event.data.get("attempt")
            yield Moment(at=at, text=str(event.data["status"]) + (f", attempt {attempt}" if attempt else ""))
        elif event.data.get("phase") != phase:
            phase = event.data.get("phase")
            yield Moment(at=at, text=str(phase))


def _pictures(task: Task) -> Iterator[Picture]:
    images = task.images.all()
    room = ALONE if len(images) == 1 else SEVERAL
    for image in images:
        longer = max(image.width, image.height)
        # A whole number of times, or some squares would be larger than others.
        enlarged = image.width * (room // longer) if longer <= SMALL else None
        yield Picture(image=image, url=image_url(image), shown_width=enlarged)


def _named(one: str | dict[str, Any]) -> str:
    """Return an embedding's name, or a LoRA's with its weight."""
    return one if isinstance(one, str) else f"{one['id']} × {one['weight']:g}"


def _shown(value: object, uploads: Collection[str]) -> object:
    """Return what a parameter's value looks like; of an upload that is there, the picture."""
    if isinstance(value, list):
        return ", ".join(map(_named, value))
    if str(value) not in uploads:
        return value
    url = reverse("upload-image", args=[value])
    return format_html('<a href="{0}"><img class="task-begun" src="{0}" alt="{1}"></a>', url, value)


def _parameters(task: Task) -> Iterator[Row]:
    uploads = {str(pk) for pk in task.uploads.values_list("pk", flat=True)} if "image" in task.params else set()
    if task.requested_model_id != task.model_id:
        yield Row(label="Requested model", value=task.requested_model_id)
    yield Row(label="Model", value=task.model_id)
    yield Row(label="Revision", value=task.revision)
    yield Row(label="Task type", value=task.task_type)
    yield Row(label="Provider", value=task.provider)
    for name, value in task.params.items():
        if name != "prompt":
            label = _LABELS.get(name) or name.replace("_", " ").capitalize()
            yield Row(label=label, value=_shown(value, uploads))
    yield Row(label="Seed", value=task.seed)
    yield Row(label="Priority", value=task.priority)


def _times(task: Task) -> Iterator[Row]:
    waited = None if task.started_at is None else task.started_at - task.created_at
    yield Row(label="Created", value=moment(task.created_at))
    yield Row(label="Started", value=moment(task.started_at))
    yield Row(label="Finished", value=moment(task.finished_at))
    yield Row(label="Waited", value=spell(waited), hint="until its last attempt")
    yield Row(label="Duration", value=spell(duration(task)))


def _stages(task: Task) -> Iterator[Stage]:
    whole = sum(task.timings.values())
    # The database keeps no order of keys.
    known = [phase for phase in Phase.values if phase in task.timings]
    for name, seconds in {**dict.fromkeys(known), **task.timings}.items():
        yield Stage(name=name, seconds=seconds, percent=100 * seconds / whole if whole else 0)


def _lifecycle(task: Task) -> Iterator[Row]:
    yield Row(label="Id", value=task.pk)
    yield Row(label="Attempt", value=task.attempt)
    yield Row(label="Losses", value=f"{task.losses} of {task.max_attempts}", hint="how often its worker went silent")
    yield Row(label="Worker", value=task.worker)
    yield Row(label="Lease until", value=moment(task.lease_until))
    yield Row(label="Deadline", value=moment(task.deadline))
    yield Row(label="Cancel requested", value=moment(task.cancel_requested_at))
    yield Row(label="Last woken", value=moment(task.woken_at))
    yield Row(label="Updated", value=moment(task.updated_at))


def _provenance(task: Task) -> Iterator[Row]:
    for name, value in sorted(task.provenance.items()):
        yield Row(label=name, value=value)


def _reproduction(task: Task) -> Iterator[Row]:
    if task.reproduction is None:
        return
    yield Row(label="Verdict", value=task.reproduction["verdict"])
    for image in task.reproduction["images"]:
        hint = "the same file" if image["same_file"] else image["psnr"] and f"PSNR {image['psnr']} dB"
        yield Row(label=f"Picture {image['index']}", value=image["verdict"], hint=hint or "")
    for name, (then, now) in task.reproduction["differs"].items():
        yield Row(label=name, value=f"{then or 'unknown'} → {now or 'unknown'}", hint="differs")


def _descendants(task: Task) -> dict[str, list[Task]]:
    """Return the tasks that were made from this one."""
    made = list(Task.objects.filter(Q(retried_from=task) | Q(reproduces=task)).order_by("created_at"))
    return {
        "retries": [one for one in made if one.retried_from_id == task.pk],
        "reproductions": [one for one in made if one.reproduces_id == task.pk],
    }


def _webhook(task: Task) -> Iterator[Row]:
    if not task.webhook_url:
        return
    yield Row(label="URL", value=task.webhook_url)
    yield Row(label="Told of", value=", ".join(task.webhook_events))
    for delivery in task.deliveries.all():
        address = reverse("admin:tasks_app_webhookdelivery_change", args=[delivery.pk])
        link = format_html('<a class="text-link" href="{}">{}</a>', address, delivery.get_state_display())
        yield Row(label=delivery.get_event_display(), value=link, hint=delivery.last_error)


def _attempts(task: Task) -> Iterator[Row]:
    for attempt in task.attempts.all():
        lasted = attempt.ended_at and spell(attempt.ended_at - attempt.started_at)
        hint = f"{attempt.worker}, {moment(attempt.started_at)}" + (f", {lasted}" if lasted else "")
        yield Row(label=str(attempt.number), value=attempt.get_outcome_display() or "runs", hint=hint)
