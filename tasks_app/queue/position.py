"""Positions of queued tasks, and pauses that apply to them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from tasks_app.contracts import QueuePosition
from tasks_app.models import Pause, Task

_TABLE = Task._meta.db_table
_IS_PAUSED = f"""
EXISTS (
    SELECT FROM {Pause._meta.db_table} AS pause
    WHERE pause.scope = 'queue' OR (pause.scope = 'model' AND pause.target = task.model_id)
)
"""

# A single position is counted, several are numbered in one pass: with 21,000 queued rows, one position takes 5 ms
# counted and 18 ms numbered; 200 positions take 13 ms numbered and 700 ms counted.
_COUNT_ONE = f"""
SELECT task.id, 1 + (
    SELECT count(*) FROM {_TABLE} AS ahead
    WHERE ahead.status = 'queued'
      AND (-ahead.priority, ahead.created_at, ahead.id) < (-task.priority, task.created_at, task.id)
), {_IS_PAUSED}
FROM {_TABLE} AS task
WHERE task.id = ANY(%s) AND task.status = 'queued'
"""
_NUMBER_MANY = f"""
SELECT id, place, {_IS_PAUSED} FROM (
    SELECT id, model_id, row_number() OVER (ORDER BY priority DESC, created_at, id) AS place
    FROM {_TABLE} WHERE status = 'queued'
) AS task
WHERE id = ANY(%s)
"""


def get_positions(task_ids: Sequence[UUID]) -> dict[UUID, QueuePosition]:
    """Return the position by priority and age of those tasks that are queued, with one query.

    Owners' turns and warm models can let some tasks start before their position.
    """
    if not task_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_ONE if len(task_ids) == 1 else _NUMBER_MANY, [list(task_ids)])
        return {
            task_id: QueuePosition(position=place, is_paused=paused) for task_id, place, paused in cursor.fetchall()
        }
