"""Rendering of a task's values, for the list and for its page; templates and format_html escape everything."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import Truncator

from tasks_app.engine.types import percent_done
from tasks_app.models import TERMINAL, Status, Task, TaskImage

# Images up to this size in pixels are shown enlarged, with each pixel as a square.
SMALL_IMAGE_PIXELS = 128
# This much of a prompt fits into one or two lines.
SHORT_PROMPT_CHARS = 90

_BADGES = {
    Status.QUEUED: "warning",
    Status.RUNNING: "info",
    Status.SUCCEEDED: "success",
    Status.FAILED: "danger",
    Status.CANCELED: "default",
}
_ICONS = {
    Status.QUEUED: "hourglass_empty",
    Status.RUNNING: "brush",
    Status.SUCCEEDED: "hide_image",
    Status.FAILED: "broken_image",
    Status.CANCELED: "block",
}


def image_url(image: TaskImage) -> str:
    """Return the image's URL in the API."""
    return reverse("task-image", args=[image.task_id, image.index])


def thumbnail_url(image: TaskImage) -> str:
    """Return the URL of the image's thumbnail in the API."""
    return reverse("task-thumbnail", args=[image.task_id, image.index])


def get_prompt(task: Task) -> str:
    """Return the prompt, or an empty string for a task type without one."""
    return str(task.params.get("prompt", ""))


def render_prompt(task: Task) -> str:
    """Render the beginning of the prompt, with the full text as the title."""
    text = get_prompt(task)
    words = Truncator(text).chars(SHORT_PROMPT_CHARS)
    return format_html('<span data-task="{}" class="task-prompt" title="{}">{}</span>', task.pk, text, words)


def render_model(task: Task) -> str:
    """Render the model's name without its owner, with the full id as the title."""
    name = task.model_id.rpartition("/")[2]
    return format_html('<span class="task-narrow" title="{}">{}</span>', task.model_id, name)


def render_worker(task: Task) -> str:
    """Render the worker that runs the task, or ran it last."""
    return format_html('<span class="task-narrow" title="{0}">{0}</span>', task.worker or "–")


def render_created(task: Task) -> str:
    """Render the time since the task was created, with the exact time as the title."""
    return render_time_since(task.created_at)


def render_time_since(value: datetime) -> str:
    """Render the time since then, with the exact time as the title."""
    return format_html('<span class="task-quiet" title="{}">{}</span>', format_time(value), naturaltime(value))


def render_thumbnail(task: Task) -> str:
    """Render the thumbnail of the first image that is not purged, or an icon for the task's status."""
    image = next((image for image in task.images.all() if image.purged_at is None), None)
    context = {
        "url": image and thumbnail_url(image),
        "small": image and max(image.width, image.height) <= SMALL_IMAGE_PIXELS,
        "icon": _ICONS[Status(task.status)],
    }
    return render_to_string("admin/tasks_app/task/cells/thumbnail.html", context)


def render_status_badge(task: Task) -> str:
    """Render the status in its color."""
    return render_label(task.get_status_display(), _BADGES[Status(task.status)])


def render_label(text: str, kind: str) -> str:
    """Render a label in the color of its kind."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": kind})


def render_progress_bar(task: Task, *, paused: bool = False) -> str:
    """Render the share of completed steps and the phase; the bar of an unfinished task is marked for the scripts."""
    done = percent_done(task.step, task.total_steps)
    context = {"task": task, "percent": done, "live": task.status not in TERMINAL, "paused": paused}
    return render_to_string("admin/tasks_app/task/cells/progress.html", context)


def wrap_live_cell(task: Task, name: str, content: str) -> str:
    """Wrap a cell that changes while the list is open, so that the list's script can find and replace it."""
    return format_html('<div id="{}-{}" class="task-line">{}</div>', name, task.pk, content)


def get_duration(task: Task) -> timedelta | None:
    """Return the duration of the last attempt, up to now if it is running; None if there was no attempt."""
    if task.started_at is None:
        return None
    return (task.finished_at or timezone.now()) - task.started_at


def format_duration(length: timedelta | None) -> str:
    """Format a duration for display, with seconds, minutes or hours as the largest unit."""
    if length is None:
        return "–"
    seconds = max(0.0, length.total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def format_time(value: datetime | None) -> str:
    """Format a time to the second, in the current time zone."""
    return "–" if value is None else f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S %Z}"
