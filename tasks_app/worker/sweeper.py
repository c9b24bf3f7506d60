"""Sweeper thread of every worker: expired leases, missed deadlines and lost wake-ups."""

from __future__ import annotations

import logging
import threading
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from tasks_app.events import status_events
from tasks_app.models import Status
from tasks_app.queue import admission, dispatch, lifecycle, workers
from tasks_app.worker import supervisor

logger = logging.getLogger(__name__)

# Any constant that no other program uses on this database.
ADVISORY_LOCK_ID = 0x6469_6666


def sweep_tasks() -> list[tuple[UUID, Status]]:
    """Expire leases of silent workers and fail overdue tasks; return each affected task with its new status.

    Only one process sweeps at a time; the others return an empty list.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [ADVISORY_LOCK_ID])
            (alone,) = cursor.fetchone()
        if not alone:
            return []
        moved = lifecycle.expire_leases()
        moved += [(task_id, Status.FAILED) for task_id in lifecycle.fail_overdue()]
    for task_id, status in moved:
        logger.warning("Task %s: swept, now %s.", task_id, status, extra={"task": str(task_id)})
        status_events.publish_status(task_id, status)
        if status == Status.QUEUED:
            dispatch.send_wake_up(task_id)
    return moved


def resend_lost_wake_ups(*, after_seconds: float) -> None:
    """Send one wake-up if this worker is idle and a task has been waiting for `after_seconds`.

    Every idle worker does so for a different task, so that together they send as many wake-ups as can be used.
    """
    if not supervisor.is_busy():
        for task_id in lifecycle.mark_woken(worker=supervisor.WORKER_NAME, after_seconds=after_seconds, limit=1):
            dispatch.send_wake_up(task_id)


def run_forever(stop: threading.Event) -> None:
    """Sweep at every interval until `stop` is set; a worker runs this in a thread of its own."""
    after_seconds = 0.0
    away = False
    while not stop.is_set():
        try:
            connection.ensure_connection()
            if away:
                # Leases expired while no worker could renew them: give live workers time to do so first.
                stop.wait(2 * settings.HEARTBEAT_SECONDS)
            sweep_tasks()
            resend_lost_wake_ups(after_seconds=after_seconds)
            workers.prune_workers()
            admission.purge_expired_keys()
            after_seconds, away = settings.WAKE_UP_INTERVAL_SECONDS, False
        except (DatabaseError, InterfaceError) as error:
            away = True
            logger.warning("Sweep failed: %s", type(error).__name__)
        finally:
            connection.close()
        stop.wait(settings.SWEEP_INTERVAL_SECONDS)
