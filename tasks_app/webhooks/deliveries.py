"""The rows of webhook deliveries: made of ended tasks, handed out to one sender at a time, settled.

A task that somebody wants to hear of is marked as due when it is made. Whatever ends it, the next look turns the mark
into a delivery, in one statement: no end is missed, and none is told twice. Time is the database's.
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

# After the first attempt, in seconds: ten more within a day.
DELAYS = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 28_800)
# How much longer a delay may be by chance, so that a receiver that comes back isn't met by all at once.
JITTER = 0.1
# An attempt takes much less; a sender that is silent for so long is gone.
LEASE_SECONDS = 60
HTTP_GONE = 410
SENDER_LOST = "The worker that sent it has gone."

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

# One whose sender was lost at its last attempt is given up rather than handed out.
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
    """Make a delivery of every task that ended as somebody wants to hear of."""
    with connection.cursor() as cursor:
        cursor.execute(_ENQUEUE)


def claim_delivery() -> WebhookDelivery | None:
    """Give the delivery that has been due for longest to this sender alone; None when none is due."""
    taken = next(iter(WebhookDelivery.objects.raw(_CLAIM, [SENDER_LOST, LEASE_SECONDS])), None)
    return taken if taken is None or taken.state == State.SENDING else claim_delivery()


def record_result(delivery: WebhookDelivery, answer: DeliveryResult) -> bool:
    """Write what came of the attempt that was taken; False when another sender has taken it since."""
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
    """Make a delivery due at once, with all attempts before it; False while it is being sent, or when it is gone."""
    idle = WebhookDelivery.objects.filter(pk=delivery_id).exclude(state=State.SENDING)
    return bool(idle.update(state=State.PENDING, attempts=0, next_at=Now()))


def _next_delay(attempts: int) -> timedelta:
    return timedelta(seconds=DELAYS[attempts - 1] * random.uniform(1, 1 + JITTER))  # noqa: S311 (spreads, guards nothing)
