"""SQL of the transitions that would take the ORM several statements; only `lifecycle.py` runs it."""

from __future__ import annotations

from tasks_app import errors
from tasks_app.models import Task, TaskAttempt, TaskImage
from tasks_app.queue import claim_order, rows

_TABLE = Task._meta.db_table
_ATTEMPTS = TaskAttempt._meta.db_table
_IMAGES = TaskImage._meta.db_table
_NOW = claim_order.NOW
_BY_AGE = "claimed.priority DESC, claimed.created_at, claimed.id"

_UPDATE_CHOSEN = f"""
, claimed AS (
    UPDATE {_TABLE} AS task
    SET status = 'running', phase = 'loading', step = 0, attempt = attempt + 1, worker = %(worker)s,
        lease_until = {_NOW} + make_interval(secs => %(lease_seconds)s), started_at = {_NOW}, updated_at = {_NOW}
    FROM chosen
    WHERE task.id = chosen.id AND task.status = 'queued'
    RETURNING task.*
), begun AS (
    INSERT INTO {_ATTEMPTS} (task_id, number, worker, outcome) SELECT id, attempt, worker, '' FROM claimed
)
SELECT {rows.select_columns("claimed")} FROM claimed JOIN chosen ON chosen.id = claimed.id
ORDER BY chosen.nth, {_BY_AGE}
"""

CLAIM_BATCH = f"""
{claim_order.CLAIM_ORDER}, best AS MATERIALIZED (
    {claim_order.build_lock_query("1")}
), {claim_order.BATCH_MATES}, chosen AS (
    SELECT id, 0 AS nth FROM best UNION ALL SELECT id, 1 FROM company
){_UPDATE_CHOSEN}
"""

CLAIM_MORE = f"""
{claim_order.CLAIM_ORDER}, best AS MATERIALIZED (
    SELECT id FROM {_TABLE} WHERE id = %(beside)s
), {claim_order.BATCH_MATES}, chosen AS (
    SELECT id, 1 AS nth FROM company
){_UPDATE_CHOSEN}
"""

RENEW_LEASES = f"""
UPDATE {_TABLE} AS task
SET phase = %s, step = %s, total_steps = %s, lease_until = {_NOW} + make_interval(secs => %s), updated_at = {_NOW}
FROM unnest(%s::uuid[], %s::integer[]) AS claim (id, attempt)
WHERE task.id = claim.id AND task.attempt = claim.attempt AND task.status = 'running'
RETURNING task.id, cancel_requested_at IS NOT NULL, COALESCE(deadline < {_NOW}, false)
"""

# A task whose cancellation was requested is not requeued. A requeued task runs alone from then on: if it killed the
# worker, it must not take other tasks with it.
EXPIRE_LEASES = f"""
WITH gone AS MATERIALIZED (
    SELECT id, CASE WHEN cancel_requested_at IS NOT NULL THEN 'canceled'
                    WHEN lost_workers + 1 >= max_lost_workers THEN 'failed' ELSE 'queued' END AS next
    FROM {_TABLE}
    WHERE status = 'running' AND lease_until < {_NOW} FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE {_TABLE} AS task
    SET status = gone.next, lost_workers = lost_workers + 1, lease_until = NULL, phase = '', updated_at = {_NOW},
        batch_key = CASE gone.next WHEN 'queued' THEN '' ELSE batch_key END,
        step = CASE gone.next WHEN 'queued' THEN 0 ELSE step END,
        worker = CASE gone.next WHEN 'queued' THEN '' ELSE worker END,
        started_at = CASE gone.next WHEN 'queued' THEN NULL ELSE started_at END,
        finished_at = CASE gone.next WHEN 'queued' THEN NULL ELSE {_NOW} END,
        error_code = CASE gone.next WHEN 'failed' THEN '{errors.WorkerLostError.code}'
                                    WHEN 'canceled' THEN '{errors.TaskCanceledError.code}' ELSE '' END,
        error_message = CASE gone.next WHEN 'failed' THEN %s WHEN 'canceled' THEN %s ELSE '' END
    FROM gone
    WHERE task.id = gone.id AND task.status = 'running'
    RETURNING task.id, task.status, task.attempt
), lost AS (
    UPDATE {_ATTEMPTS} AS attempt SET outcome = 'lost', ended_at = {_NOW}
    FROM moved WHERE attempt.task_id = moved.id AND attempt.number = moved.attempt
)
SELECT id, status FROM moved
"""

# Every successful run ends with this statement while the next one computes; the ORM took six for each, and ten times
# as long.
_IMAGE_COLUMNS = "index, content_type, seed, width, height, sha256, flagged, blank"
MARK_SUCCEEDED = f"""
WITH made AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS made (
        task_id uuid, attempt integer, revision text, timings jsonb, size jsonb, provenance jsonb, reproduction jsonb,
        pictures jsonb
    )
), moved AS (
    UPDATE {_TABLE} AS task
    SET status = 'succeeded', phase = '', lease_until = NULL, finished_at = {_NOW}, updated_at = {_NOW},
        step = total_steps, revision = made.revision, timings = made.timings, params = params || made.size,
        provenance = made.provenance, reproduction = made.reproduction
    FROM made
    WHERE task.id = made.task_id AND task.attempt = made.attempt AND task.status = 'running'
        AND task.cancel_requested_at IS NULL
    RETURNING task.id, task.attempt, task.finished_at
), closed AS (
    UPDATE {_ATTEMPTS} AS attempt SET outcome = 'succeeded', ended_at = {_NOW}
    FROM moved WHERE attempt.task_id = moved.id AND attempt.number = moved.attempt
), pictured AS (
    INSERT INTO {_IMAGES} (task_id, attempt, file, {_IMAGE_COLUMNS})
    SELECT moved.id, moved.attempt, picture.file, {_IMAGE_COLUMNS}
    FROM moved JOIN made ON made.task_id = moved.id,
        jsonb_populate_recordset(NULL::{_IMAGES}, made.pictures) AS picture
)
SELECT id, finished_at FROM moved
"""

FIND_CLAIMABLE = f"{claim_order.CLAIM_ORDER} SELECT id FROM line ORDER BY place LIMIT 1"

_WAITED = f"COALESCE(woken_at, created_at) <= {_NOW} - make_interval(secs => %(after_seconds)s)"
MARK_WOKEN = f"""
{claim_order.CLAIM_ORDER}, best AS MATERIALIZED (
    {claim_order.build_lock_query("%(limit)s", _WAITED)}
)
UPDATE {_TABLE} AS task SET woken_at = {_NOW} FROM best WHERE task.id = best.id RETURNING task.id
"""
