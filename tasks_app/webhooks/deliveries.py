"""Rows of webhook deliveries: created for ended tasks, claimed by one sender at a time, completed with a result.

A task with a webhook is marked as due when it is created. However it ends, the next `enqueue_deliveries` turns the mark
into a delivery, in one statement: no end is missed, and none is enqueued twice. All times are the database's.
"""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import UUID

from django.db import connection
from django.db.models.functions import Now

from tasks_app.contracts import DeliveryResult
from tasks_app.models import TERMINAL, Task, WebhookDelivery

State = WebhookDelivery.State

# Seconds between the attempts: ten retries within a day.
DELAYS = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 28_800)
# Delays are extended by a random fraction up to this, so that a recovered receiver isn't flooded.
JITTER = 0.1
# An attempt takes much less; a sender without a result after this time counts as lost.
LEASE_SECONDS = 60
HTTP_GONE = 410
SENDER_LOST = "The worker that was sending it stopped."

_TASK_TABLE = Task._meta.db_table
_DELIVERY_TABLE = WebhookDelivery._meta.db_table
_NOW = "statement_timestamp()"
_ENDED = ", ".join(f"'{status}'" for status in TERMINAL)

_ENQUEUE = f"""
WITH ended AS MATERIALIZED (
    SELECT id, status, webhook_url, webhook_events FROM {_TASK_TABLE}
    WHERE webhook_due AND status IN ({_ENDED}) ORDER BY finished_at LIMIT 100 FOR UPDATE SKIP LOCKED
), told AS (
    UPDATE {_TASK_TABLE} AS task SET webhook_due = false FROM ended WHERE task.id = ended.id
)
INSERT INTO {_DELIVERY_TABLE} (id, task_id, event, url, state, attempts, last_error)
SELECT gen_random_uuid(), id, status, webhook_url, 'pending', 0, '' FROM ended WHERE status = ANY(webhook_events)
"""

# A delivery whose sender was lost during the last attempt fails instead of being sent again.
_CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT id, attempts >= {len(DELAYS) + 1} AS spent FROM {_DELIVERY_TABLE}
    WHERE state IN ('pending', 'sending') AND next_at <= {_NOW}
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE {_DELIVERY_TABLE} AS delivery
SET state = CASE WHEN spent THEN 'failed' ELSE 'sending' END,
    attempts = CASE WHEN spent THEN attempts ELSE attempts + 1 END,
    last_error = CASE WHEN state = 'sending' THEN %s ELSE last_error END,
    last_at = {_NOW}, next_at = {_NOW} + make_interval(secs => %s)
FROM due WHERE delivery.id = due.id
RETURNING delivery.*
"""


def enqueue_deliveries() -> None:
    """Create deliveries for ended tasks whose webhook subscribes to the event."""
    with connection.cursor() as cursor:
        cursor.execute(_ENQUEUE)


def claim_delivery() -> WebhookDelivery | None:
    """Claim the delivery that has been due for longest; return None if none is due."""
    taken = next(iter(WebhookDelivery.objects.raw(_CLAIM, [SENDER_LOST, LEASE_SECONDS])), None)
    return taken if taken is None or taken.state == State.SENDING else claim_delivery()


def record_result(delivery: WebhookDelivery, answer: DeliveryResult) -> bool:
    """Record the result of a claimed attempt; return False if another sender has claimed it since."""
    wait = timedelta(0)
    if not answer.error:
        state = State.DELIVERED
    elif answer.status == HTTP_GONE or delivery.attempts > len(DELAYS):
        state = State.FAILED
    else:
        state, wait = State.PENDING, _next_delay(delivery.attempts)
    held = WebhookDelivery.objects.filter(pk=delivery.pk, state=State.SENDING, next_at=delivery.next_at)
    return bool(
        held.update(
            state=state, next_at=Now() + wait, last_at=Now(), last_status=answer.status, last_error=answer.error
        )
    )


def requeue_delivery(delivery_id: UUID) -> bool:
    """Make a delivery due now, with all its attempts left.

    Return False while it is being sent, or if it no longer exists.
    """
    idle = WebhookDelivery.objects.filter(pk=delivery_id).exclude(state=State.SENDING)
    return bool(idle.update(state=State.PENDING, attempts=0, next_at=Now()))


def _next_delay(attempts: int) -> timedelta:
    return timedelta(seconds=DELAYS[attempts - 1] * random.uniform(1, 1 + JITTER))  # noqa: S311 (spreads, guards nothing)
