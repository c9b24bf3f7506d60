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

from tasks_app import errors
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
    told = JSONObject(**fields, purged=Q(purged_at__isnull=False))
    images = TaskImage.objects.filter(task=OuterRef("pk"))
    return tasks.annotate(pictures=ArraySubquery(images.values_list(told)))


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


def get_images(task: Task) -> list[dict[str, Any]]:
    """Return the image columns of a task annotated by `annotate_images`, in order."""
    found: list[dict[str, Any]] = task.pictures  # type: ignore[attr-defined]  # an annotation
    return found


def serialize_tasks(request: Request, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return the JSON of tasks, with live progress and queue positions.

    Succeeded tasks must be annotated by `annotate_images`. Takes one query if some tasks are queued, and one call to
    Redis if some are running.
    """
    live = progress.get_live_progress(tasks)
    standings = position.get_positions([task.pk for task in tasks if task.status == Status.QUEUED])
    return [_serialize_task(request, task, live.get(task.pk, {}), standings.get(task.pk)) for task in tasks]


def _serialize_task(
    request: Request, task: Task, live: Mapping[str, Any], stands: QueuePosition | None
) -> dict[str, Any]:
    url = reverse("task", args=[task.pk], request=request)
    return {
        "id": str(task.pk),
        "task_type": task.task_type,
        "status": task.status,
        "priority": task.priority,
        "params": _serialize_params(task),
        "model": {"id": task.model_id, "revision": task.revision or None},
        "progress": _serialize_progress(task, live),
        "queue_position": None if stands is None else stands.position,
        "paused": stands is not None and stands.is_paused,
        "attempt": task.attempt,
        "images": _serialize_images(url, task) if task.status == Status.SUCCEEDED else [],
        "error": _serialize_error(task),
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "timings": task.timings,
        "provenance": task.provenance,
        "retried_from": task.retried_from_id and str(task.retried_from_id),
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


def _serialize_progress(task: Task, live: Mapping[str, Any]) -> dict[str, Any]:
    known = {**progress.progress_from_row(task), **live}
    return {name: value or None if name == "phase" else value for name, value in known.items() if name != "attempt"}


def _serialize_images(task_url: str, task: Task) -> list[dict[str, Any]]:
    return [_serialize_image(f"{task_url}/images/{picture['index']}", picture) for picture in get_images(task)]


def _serialize_image(url: str, picture: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": picture["index"], "url": url, "thumbnail_url": f"{url}/thumbnail", **picture}


def _serialize_reproduction(task: Task) -> dict[str, Any] | None:
    if task.reproduces_id is None and task.reproduction is None:
        return None
    known = task.reproduction or {"verdict": None, "images": [], "differences": {}}
    return {"of": task.reproduces_id and str(task.reproduces_id), **known}


def _serialize_error(task: Task) -> dict[str, Any] | None:
    if not task.error_code:
        return None
    retryable = errors.RETRYABLE[task.error_code]
    return {"code": task.error_code, "message": task.error_message, "retryable": retryable}
