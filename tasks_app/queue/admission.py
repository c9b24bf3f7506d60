"""What stands between a valid request and its row: it was made before, or its key has too many that wait.

Both are called in the transaction that inserts the task, and hold a lock until its end: no two requests can race.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from tasks_app.contracts import IdempotentRequest, Principal
from tasks_app.errors import IdempotencyKeyReusedError, QuotaExceededError
from tasks_app.models import ApiKey, IdempotencyKey, Status, Task

QUEUED_TASKS = "queued_tasks"
# How soon it is worth another try: nobody knows when a place is free.
RETRY_AFTER_SECONDS = 5

_INSERT_KEY = f"""
INSERT INTO {IdempotencyKey._meta.db_table} (key_id, name, body_sha256, task_id) VALUES (%s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""


def register_request(once: IdempotentRequest, caller: Principal, task_id: UUID) -> Task | None:
    """Return the task that the same request made before; None when this one, with this id, is the first.

    Raises:
        KeyReused: it was another request.
    """
    known = None
    while known is None:
        if _insert_key(once, caller, task_id):
            return None
        names = IdempotencyKey.objects.select_related("task")
        known = names.filter(key_id=caller.key_id, name=once.name).first()  # None: it was forgotten between the two
    if known.body_sha256 != once.body_sha256:
        raise IdempotencyKeyReusedError(str(IdempotencyKeyReusedError.__doc__))
    return known.task


def _insert_key(once: IdempotentRequest, caller: Principal, task_id: UUID) -> bool:
    """Keep the name, unless it is kept; wait for whoever does so at this moment until that one's task is there."""
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_KEY, [caller.key_id, once.name, once.body_sha256, task_id])
        return bool(cursor.rowcount)


def check_queue_quota(caller: Principal) -> None:
    """Let one more of the caller's tasks wait.

    Raises:
        LimitExceeded: as many as may wait do so already.
    """
    most = caller.limits.max_queued
    if most is None or caller.key_id is None:
        return
    # Requests with the same key come one after another from here on; a claim only makes room.
    ApiKey.objects.select_for_update(no_key=True).only("pk").get(pk=caller.key_id)
    waiting = Task.objects.filter(key_id=caller.key_id, status=Status.QUEUED).order_by()
    if waiting[:most].count() >= most:
        raise QuotaExceededError(QUEUED_TASKS, most, retry_after=RETRY_AFTER_SECONDS)


def purge_expired_keys() -> None:
    """Let names be used anew after IDEMPOTENCY_TTL_HOURS."""
    IdempotencyKey.objects.filter(created_at__lt=Now() - timedelta(hours=settings.IDEMPOTENCY_TTL_HOURS)).delete()
