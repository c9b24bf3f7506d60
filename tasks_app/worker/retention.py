"""Retention of ended tasks by age and count: images of tasks that succeeded, rows of the others, unused uploads.

Every worker does this in a separate thread, so that a slow storage delays no lease renewal. Files are deleted before
rows, so that any failure in between is retried. Rows are deleted in batches, images task by task, since deleting files
may take long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from tasks_app.errors import StorageError
from tasks_app.images import storage, uploads
from tasks_app.models import Status, Task, TaskImage, WebhookDelivery
from tasks_app.queue import lifecycle

logger = logging.getLogger(__name__)

# Any constant that no other program uses on this database. The sweeper has its own: it must not wait for the storage.
ADVISORY_LOCK_ID = 0x6469_6667
BATCH_SIZE = 100

# End time and id of a task, in the order of the index.
PurgeCursor = tuple[datetime, UUID]
CURSOR_START: PurgeCursor = (datetime.min.replace(tzinfo=UTC), UUID(int=0))

AGE_CUTOFF = "SELECT statement_timestamp() - make_interval(secs => %s)"
_SELECT_UNPURGED = f"SELECT finished_at, id FROM {Task._meta.db_table} WHERE status = %s AND purged_at IS NULL"
COUNT_CUTOFF = f"{_SELECT_UNPURGED} ORDER BY finished_at DESC, id DESC OFFSET %s LIMIT 1"
SELECT_DUE = f"""
{_SELECT_UNPURGED} AND (finished_at, id) > (%s, %s) AND (finished_at, id) <= (%s, %s)
ORDER BY finished_at, id LIMIT {BATCH_SIZE}
"""


def purge_tasks() -> Generator[tuple[UUID, Status]]:
    """Purge the tasks that exceed the limits in RETENTION, then unused uploads; yield each task's id and last status.

    Only one process purges at a time; for the others there is nothing to do.
    """
    with _try_lock() as alone:
        for name in settings.RETENTION if alone else ():
            status = Status(name)
            for batch in _iter_due_batches(status):
                purged = filter(_purge_images, batch) if status == Status.SUCCEEDED else _delete_tasks(batch)
                yield from ((task_id, status) for task_id in purged)
        if alone:
            uploads.purge_uploads()


def run_forever(stop: threading.Event) -> None:
    """Purge at every interval until `stop` is set; a worker runs this in a thread of its own."""
    while True:
        try:
            _purge_until_stopped(stop)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Retention failed: %s", type(error).__name__)
        finally:
            connection.close()
        if stop.wait(settings.RETENTION_INTERVAL_SECONDS):
            return


def _purge_until_stopped(stop: threading.Event) -> None:
    with closing(purge_tasks()) as purged:
        for task_id, status in purged:
            logger.info("Task %s: purged, %s.", task_id, status, extra={"task": str(task_id)})
            if stop.is_set():
                return


def _iter_due_batches(status: Status) -> Iterator[list[UUID]]:
    """Yield batches of the tasks to purge, the oldest first; tasks that can't be purged are skipped."""
    last, at = _find_cutoff(status), CURSOR_START
    while last is not None and (batch := _fetch_rows(SELECT_DUE, [status, *at, *last])):
        yield [task_id for _, task_id in batch]
        at = batch[-1]


def _find_cutoff(status: Status) -> PurgeCursor | None:
    """Return the position of the newest task to purge, by the stricter rule; None if all are kept."""
    rules = settings.RETENTION[status]
    places: list[PurgeCursor] = []
    if rules["age_days"] is not None:
        ((ago,),) = _fetch_rows(AGE_CUTOFF, [rules["age_days"] * 24 * 3600])
        places.append((ago, UUID(int=0)))
    if rules["count"] is not None:
        places += _fetch_rows(COUNT_CUTOFF, [status, rules["count"]])
    return max(places, default=None)


def _delete_tasks(task_ids: Sequence[UUID]) -> list[UUID]:
    """Delete the tasks and return their ids.

    Tasks with outstanding webhook deliveries are kept, since the deliveries would be deleted with the row.
    """
    waits = [WebhookDelivery.State.PENDING, WebhookDelivery.State.SENDING]
    to_be_told = Task.objects.filter(Q(webhook_due=True) | Q(deliveries__state__in=waits), pk__in=task_ids)
    gone = set(task_ids) - set(to_be_told.values_list("pk", flat=True))
    lifecycle.delete_tasks(*gone)
    return [task_id for task_id in task_ids if task_id in gone]


def _purge_images(task_id: UUID) -> bool:
    images = TaskImage.objects.filter(task=task_id)
    try:
        storage.delete_files(list(images.values_list("file", flat=True)))
    except StorageError as error:
        logger.warning("Task %s: not purged, will be retried: %s", task_id, error, extra={"task": str(task_id)})
        return False
    with transaction.atomic():
        images.update(purged_at=Now())
        return bool(Task.objects.filter(pk=task_id).update(purged_at=Now()))


def _fetch_rows(sql: str, parameters: Sequence[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


@contextmanager
def _try_lock() -> Iterator[bool]:
    """Try to hold a session-level lock: deleting files may take longer than a transaction should."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK_ID])
        (alone,) = cursor.fetchone()
        try:
            yield alone
        finally:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK_ID])
