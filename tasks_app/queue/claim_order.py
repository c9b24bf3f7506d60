"""Order in which a worker claims tasks: SQL for `lifecycle`, the only module that runs it.

    1. priority
    2. turns between owners: the one with the fewest running tasks, then, after 3, the one served longest ago
    3. a model that the worker has loaded, unless that would delay the first task in line for too long
    4. age

An owner is an API key; all tasks without one have the same owner. Queued tasks of one owner, model and revision form a
lane, in which they are ordered by priority and age. Only the heads of lanes are compared, and each is found by one step
in the index `task_lane`: the cost of a claim depends on the number of lanes, not on the number of tasks in them.

The best task is claimed together with others of its batch key, as many as fit into one call: by priority, then by turns
of owners, then by age. They are found in the index `task_batch`, regardless of other queued tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings

from tasks_app.contracts import WorkerCapacity
from tasks_app.models import ApiKey, DiffusionModel, Pause, Task

_TABLE = Task._meta.db_table
NOW = "statement_timestamp()"
# Must match the indexes `task_lane` and `task_served`; no key has the id 0.
_OWNER = "COALESCE(key_id, 0)"
_LANE = f"{_OWNER}, model_id, revision"
_LANE_ORDER = "priority DESC, created_at, id"
_IS_CLAIMABLE = f"status = 'queued' AND (deadline IS NULL OR deadline > {NOW})"
_SELECT_HEAD = (
    f"SELECT id, {_OWNER} AS owner, model_id, revision, priority, created_at FROM {_TABLE} WHERE {_IS_CLAIMABLE}"
)

# Beginning of each statement that selects tasks: CTEs, the last of which is `line`, the lanes that the worker may claim
# from, numbered by `place`. `build_parameters` returns the parameters.
CLAIM_ORDER = f"""
WITH RECURSIVE lane AS (
    ({_SELECT_HEAD} ORDER BY {_LANE}, {_LANE_ORDER} LIMIT 1)
    UNION ALL
    SELECT next.* FROM lane CROSS JOIN LATERAL (
        {_SELECT_HEAD} AND ({_LANE}) > (lane.owner, lane.model_id, lane.revision)
        ORDER BY {_LANE}, {_LANE_ORDER} LIMIT 1
    ) AS next
), busy AS MATERIALIZED (
    SELECT {_OWNER} AS owner, count(*) AS tasks FROM {_TABLE} WHERE status = 'running' GROUP BY 1
), turns AS MATERIALIZED (
    SELECT lane.*, COALESCE(busy.tasks, 0) AS running,
        CASE WHEN lane.owner > 0 THEN COALESCE(key.max_running, %(max_running)s::integer) - COALESCE(busy.tasks, 0) END
            AS spare,
    row_number() OVER (
        ORDER BY lane.priority DESC, COALESCE(busy.tasks, 0),
            (SELECT max(started_at) FROM {_TABLE} WHERE {_OWNER} = lane.owner) NULLS FIRST, lane.created_at, lane.id
    ) AS turn
    FROM lane LEFT JOIN busy ON busy.owner = lane.owner LEFT JOIN {ApiKey._meta.db_table} AS key ON key.id = lane.owner
    WHERE NOT EXISTS (
        SELECT FROM {Pause._meta.db_table} AS pause
        WHERE pause.scope = 'queue' OR (pause.scope = 'model' AND pause.target = lane.model_id)
            OR (pause.scope = 'worker' AND pause.target = %(worker)s)
    ) AND (
        lane.owner > 0 AND COALESCE(busy.tasks, 0) >= COALESCE(key.max_running, %(max_running)s::integer)
    ) IS NOT TRUE
), line AS MATERIALIZED (
    SELECT id, owner, model_id, revision, spare, row_number() OVER (
        ORDER BY priority DESC, running, (EXISTS (
            SELECT FROM unnest(%(models)s::text[], %(revisions)s::text[]) AS held (model_id, revision)
            WHERE held.model_id = turns.model_id AND turns.revision IN ('', held.revision)
        ) AND NOT (
            SELECT %(held_seconds)s >= %(patience)s AND created_at <= {NOW} - make_interval(secs => %(patience)s)
            FROM turns WHERE turn = 1
        )) DESC, turn
    ) AS place
    FROM turns
)
"""


# Factor by which more tasks are selected than fit into a call, since other workers may be about to claim the same ones.
_LOOKAHEAD = 4

# CTEs that follow `CLAIM_ORDER` and a CTE `best` with the id of one task. `company` has the ids of the tasks that join
# its batch, which has `taken` tasks already; their rows are locked.
BATCH_MATES = f"""
room AS MATERIALIZED (
    SELECT task.id, task.batch_key, task.model_id, task.revision, COALESCE(task.key_id, 0) AS owner, GREATEST(0, LEAST(
        COALESCE(model.max_batch, %(max_batch)s), fit.pictures
    ) / COALESCE((task.params ->> 'num_images')::integer, 1) - %(taken)s) AS places
    FROM best JOIN {_TABLE} AS task USING (id)
    LEFT JOIN {DiffusionModel._meta.db_table} AS model ON model.model_id = task.model_id
    LEFT JOIN unnest(%(fit_models)s::text[], %(fit_pictures)s::integer[]) AS fit (model_id, pictures)
        ON fit.model_id = task.model_id
    WHERE task.batch_key <> ''
), near AS MATERIALIZED (
    SELECT mate.id, row_number() OVER (ORDER BY mate.priority DESC, mate.turn, line.place) AS nth
    FROM room JOIN line ON (line.model_id, line.revision) = (room.model_id, room.revision) CROSS JOIN LATERAL (
        SELECT id, priority, row_number() OVER (ORDER BY {_LANE_ORDER}) AS turn FROM {_TABLE}
        WHERE {_IS_CLAIMABLE} AND batch_key <> '' AND batch_key = room.batch_key
            AND {_OWNER} = line.owner AND id <> room.id
        ORDER BY {_LANE_ORDER}
        LIMIT GREATEST(0, LEAST({_LOOKAHEAD} * room.places, line.spare - (line.owner = room.owner)::integer))
    ) AS mate
), company AS MATERIALIZED (
    SELECT task.id FROM near JOIN {_TABLE} AS task ON task.id = near.id
    WHERE task.status = 'queued' ORDER BY near.nth LIMIT (SELECT places FROM room) FOR UPDATE OF task SKIP LOCKED
)
"""


def is_batch_full(tasks: Sequence[Task], held: WorkerCapacity) -> bool:
    """Return whether no more tasks fit into the call of these tasks, counted as in `BATCH_MATES`."""
    first = tasks[0]
    if not first.batch_key:
        return True
    row = DiffusionModel.objects.filter(model_id=first.model_id).values_list("max_batch", flat=True).first()
    most = row or settings.MAX_BATCH
    return bool(min(most, held.max_batch_sizes.get(first.model_id, most)) // first.params["num_images"] <= len(tasks))


def build_lock_query(limit: str, condition: str = "true") -> str:
    """Return the query that locks the first `limit` tasks in line and returns their ids; it follows `CLAIM_ORDER`.

    If another worker has locked the head of a lane, the next task of that lane is taken. No task is locked in lanes
    further back.
    """
    return f"""
        SELECT free.id FROM (SELECT * FROM line ORDER BY place) AS line CROSS JOIN LATERAL (
            SELECT id FROM {_TABLE}
            WHERE {_IS_CLAIMABLE} AND ({_LANE}) = (line.owner, line.model_id, line.revision) AND {condition}
            ORDER BY {_LANE_ORDER} LIMIT {limit} FOR UPDATE SKIP LOCKED
        ) AS free
        ORDER BY line.place LIMIT {limit}
    """


def build_parameters(worker: str, held: WorkerCapacity) -> dict[str, Any]:
    """Return the parameters of `CLAIM_ORDER`; an empty name means any worker that is not paused."""
    return {
        "worker": worker,
        "max_running": settings.MAX_RUNNING_PER_KEY,
        "models": [model.model_id for model in held.models],
        "revisions": [model.revision for model in held.models],
        "fit_models": list(held.max_batch_sizes),
        "fit_pictures": list(held.max_batch_sizes.values()),
        "max_batch": settings.MAX_BATCH,
        "held_seconds": held.unchanged_seconds,
        "patience": settings.MODEL_AFFINITY_SECONDS,
    }
