"""JSON representation of tasks in API responses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection
from django.db.models import OuterRef, Q, QuerySet
from django.db.models.functions import JSONObject
from rest_framework.request import Request
from rest_framework.reverse import reverse

from tasks_app import answers
from tasks_app.contracts import QueuePosition
from tasks_app.events import progress
from tasks_app.models import Status, Task, TaskImage
from tasks_app.queue import position, rows

_IMAGE_COLUMNS = ("index", "seed", "width", "height", "content_type", "sha256", "flagged", "blank")

_TASK_WITH_IMAGES = f"""
SELECT {rows.select_columns("task")}, (
    SELECT COALESCE(jsonb_agg(jsonb_build_object({", ".join(f"'{name}', {name}" for name in _IMAGE_COLUMNS)},
                                                 'purged', image.purged_at IS NOT NULL) ORDER BY index), '[]')
    FROM {TaskImage._meta.db_table} AS image WHERE image.task_id = task.id
)
FROM {Task._meta.db_table} AS task WHERE id = %s
"""


def annotate_images(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Annotate each task with its images, fetched in the same query, for `serialize_tasks`."""
    fields = {name: name for name in _IMAGE_COLUMNS}
    columns = JSONObject(**fields, purged=Q(purged_at__isnull=False))
    images = TaskImage.objects.filter(task=OuterRef("pk"))
    return tasks.annotate(pictures=ArraySubquery(images.values_list(columns)))


def get_annotated_task(task_id: UUID) -> Task | None:
    """Return one task annotated as by `annotate_images`, or None if it does not exist.

    The SQL is written out, because compiling the ORM query takes longer than running it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TASK_WITH_IMAGES, [task_id])
        row = cursor.fetchone()
    if row is None:
        return None
    (task,) = rows.build_tasks([row[:-1]])
    task.pictures = json.loads(row[-1])  # type: ignore[attr-defined]
    return task


def get_images(task: Task) -> list[answers.ImageColumns]:
    """Return the image columns of a task annotated by `annotate_images`, in order."""
    found: list[answers.ImageColumns] = task.pictures  # type: ignore[attr-defined]  # an annotation
    return found


def serialize_tasks(request: Request, tasks: Sequence[Task]) -> list[answers.Task]:
    """Return the JSON of tasks, with live progress and queue positions.

    Succeeded tasks must be annotated by `annotate_images`. Takes one query if some tasks are queued, and one call to
    Redis if some are running.
    """
    live = progress.get_live_progress(tasks)
    positions = position.get_positions([task.pk for task in tasks if task.status == Status.QUEUED])
    return [_serialize_task(request, task, live.get(task.pk, {}), positions.get(task.pk)) for task in tasks]


def _serialize_task(
    request: Request, task: Task, live: Mapping[str, Any], queued: QueuePosition | None
) -> answers.Task:
    url = reverse("task", args=[task.pk], request=request)
    return {
        **answers.serialize_task_core(task),
        "priority": task.priority,
        "params": _serialize_params(task),
        "progress": _serialize_progress(task, live),
        "queue_position": None if queued is None else queued.position,
        "paused": queued is not None and queued.is_paused,
        "attempt": task.attempt,
        "images": _serialize_images(url, task) if task.status == Status.SUCCEEDED else [],
        "warnings": task.warnings,
        "timings": task.timings,
        "provenance": task.provenance,
        "reproduction": _serialize_reproduction(task),
        # Built by hand to match `urls.py`: reversing each URL costs more than the rest of a list.
        "urls": {"self": url, "events": f"{url}/events", "cancel": f"{url}/cancel", "images": f"{url}/images"},
    }


def _serialize_params(task: Task) -> dict[str, Any]:
    return {
        "provider": task.provider,
        "model_id": task.requested_model_id,
        **task.params,
        "seed": task.seed,
    }


def _serialize_progress(task: Task, live: Mapping[str, Any]) -> answers.Progress:
    known = {**progress.progress_from_row(task), **live}
    found: answers.Progress = {
        "phase": known["phase"] or None,
        "step": known["step"],
        "total_steps": known["total_steps"],
        "percent": known["percent"],
        "eta_seconds": known["eta_seconds"],
    }
    if "bytes_done" in known:
        found |= {"bytes_done": known["bytes_done"], "bytes_total": known["bytes_total"]}
    return found


def _serialize_images(task_url: str, task: Task) -> list[answers.Image]:
    return [_serialize_image(f"{task_url}/images/{image['index']}", image) for image in get_images(task)]


def _serialize_image(url: str, image: answers.ImageColumns) -> answers.Image:
    return {**image, "url": url, "thumbnail_url": f"{url}/thumbnail"}


def _serialize_reproduction(task: Task) -> answers.Reproduction | None:
    if task.reproduces_id is None and task.reproduction is None:
        return None
    known = task.reproduction or {"verdict": None, "images": [], "differences": {}}
    return {
        "of": str(task.reproduces_id) if task.reproduces_id else None,
        "verdict": known["verdict"],
        "images": known["images"],
        "differences": known["differences"],
    }
