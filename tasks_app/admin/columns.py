"""How a task looks in small, on the list as on its page; templates and format_html escape everything."""

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

# Up to this size in pixels a picture is shown enlarged, with its pixels as squares.
SMALL_IMAGE_PIXELS = 128
# How many characters of a prompt fit into a line or two.
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
    """Return where the API serves the picture."""
    return reverse("task-image", args=[image.task_id, image.index])


def thumbnail_url(image: TaskImage) -> str:
    """Return where the API serves the picture in small."""
    return reverse("task-thumbnail", args=[image.task_id, image.index])


def get_prompt(task: Task) -> str:
    """Return the prompt; other kinds of task may have none."""
    return str(task.params.get("prompt", ""))


def render_prompt(task: Task) -> str:
    """Render the beginning of the prompt; the whole is in the title."""
    text = get_prompt(task)
    words = Truncator(text).chars(SHORT_PROMPT_CHARS)
    return format_html('<span data-task="{}" class="task-prompt" title="{}">{}</span>', task.pk, text, words)


def render_model(task: Task) -> str:
    """Render the model's own name; the whole is in the title."""
    name = task.model_id.rpartition("/")[2]
    return format_html('<span class="task-narrow" title="{}">{}</span>', task.model_id, name)


def render_worker(task: Task) -> str:
    """Render who runs it, or ran it last."""
    return format_html('<span class="task-narrow" title="{0}">{0}</span>', task.worker or "–")


def render_created(task: Task) -> str:
    """Render how long ago the task came; the moment is in the title."""
    return render_time_since(task.created_at)


def render_time_since(value: datetime) -> str:
    """Render how long ago something was; the moment is in the title."""
    return format_html('<span class="task-quiet" title="{}">{}</span>', format_time(value), naturaltime(value))


def render_thumbnail(task: Task) -> str:
    """Render the first picture, or a sign for what became of the task."""
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
    """Render a word in the color of its kind."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": kind})


def render_progress_bar(task: Task, *, paused: bool = False) -> str:
    """Render the share of steps done, and what the task is busy with; scripts find what is still to move."""
    done = percent_done(task.step, task.total_steps)
    context = {"task": task, "percent": done, "live": task.status not in TERMINAL, "paused": paused}
    return render_to_string("admin/tasks_app/task/cells/progress.html", context)


def wrap_live_cell(task: Task, name: str, content: str) -> str:
    """Wrap a cell that changes while the list is open, so that its script can find and replace it."""
    return format_html('<div id="{}-{}" class="task-line">{}</div>', name, task.pk, content)


def get_duration(task: Task) -> timedelta | None:
    """Return how long the last attempt took, or has taken so far; None when there was none."""
    if task.started_at is None:
        return None
    return (task.finished_at or timezone.now()) - task.started_at


def format_duration(length: timedelta | None) -> str:
    """Write a length of time as people say it."""
    if length is None:
        return "–"
    seconds = max(0.0, length.total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def format_time(value: datetime | None) -> str:
    """Write a moment to the second."""
    return "–" if value is None else f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S %Z}"
