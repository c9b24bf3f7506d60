"""Checks before a valid request becomes a task: idempotency keys and queue quotas.

Both are called in the transaction that inserts the task and hold a lock until it ends, so that requests can't race.
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
# When to retry; an estimate, since it is unknown when a place in the queue becomes free.
RETRY_AFTER_SECONDS = 5

_INSERT_KEY = f"""
INSERT INTO {IdempotencyKey._meta.db_table} (key_id, name, body_sha256, task_id) VALUES (%s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""


def register_request(once: IdempotentRequest, caller: Principal, task_id: UUID) -> Task | None:
    """Return the task that an earlier identical request created; None if this request is the first.

    The first request is registered under the id that its task will have.

    Raises:
        IdempotencyKeyReusedError: the key was used for a different request.
    """
    known = None
    while known is None:
        if _insert_key(once, caller, task_id):
            return None
        names = IdempotencyKey.objects.select_related("task")
        known = names.filter(key_id=caller.key_id, name=once.name).first()  # None: it was purged in between
    if known.body_sha256 != once.body_sha256:
        raise IdempotencyKeyReusedError(str(IdempotencyKeyReusedError.__doc__))
    return known.task


def _insert_key(once: IdempotentRequest, caller: Principal, task_id: UUID) -> bool:
    """Insert the idempotency key and return whether it is new.

    If another request is inserting the same key, wait until that request's transaction ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_KEY, [caller.key_id, once.name, once.body_sha256, task_id])
        return bool(cursor.rowcount)


def check_queue_quota(caller: Principal) -> None:
    """Check that the caller may queue one more task.

    Raises:
        QuotaExceededError: the caller has the maximum number of queued tasks already.
    """
    most = caller.limits.max_queued
    if most is None or caller.key_id is None:
        return
    # The lock serializes requests with the same API key; a concurrent claim can only lower the count.
    ApiKey.objects.select_for_update(no_key=True).only("pk").get(pk=caller.key_id)
    waiting = Task.objects.filter(key_id=caller.key_id, status=Status.QUEUED).order_by()
    if waiting[:most].count() >= most:
        raise QuotaExceededError(QUEUED_TASKS, most, retry_after=RETRY_AFTER_SECONDS)


def purge_expired_keys() -> None:
    """Delete idempotency keys after IDEMPOTENCY_TTL_HOURS, so that they can be used again."""
    IdempotencyKey.objects.filter(created_at__lt=Now() - timedelta(hours=settings.IDEMPOTENCY_TTL_HOURS)).delete()
