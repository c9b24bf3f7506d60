"""What every worker does beside its tasks: expired leases, deadlines, and tickets that got lost."""

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
    """Move on what silent workers and deadlines left behind, and return it.

    Of several sweepers at the same moment one does it.
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
    """Send one ticket when a task waits for so long though this worker is idle.

    Every idle worker does so for another task, so that together they send as many as can be used.
    """
    if not supervisor.is_busy():
        for task_id in lifecycle.mark_woken(worker=supervisor.WORKER_NAME, after_seconds=after_seconds, limit=1):
            dispatch.send_wake_up(task_id)


def run_forever(stop: threading.Event) -> None:
    """Sweep at every interval until told to stop: a worker's own thread."""
    after_seconds = 0.0
    away = False
    while not stop.is_set():
        try:
            connection.ensure_connection()
            if away:
                # Leases ran out while nobody could renew them: let the living do it first.
                stop.wait(2 * settings.HEARTBEAT_SECONDS)
            sweep_tasks()
            resend_lost_wake_ups(after_seconds=after_seconds)
            workers.prune_workers()
            admission.purge_expired_keys()
            after_seconds, away = settings.WAKE_UP_INTERVAL_SECONDS, False
        except (DatabaseError, InterfaceError) as error:
            away = True
            logger.warning("No sweep: %s", type(error).__name__)
        finally:
            connection.close()
        stop.wait(settings.SWEEP_INTERVAL_SECONDS)
