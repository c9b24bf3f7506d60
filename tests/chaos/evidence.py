"""Evidence for the invariants: gathered through the API while the service runs, and from the system after it."""

import hashlib
import json
from typing import Any

from tests.chaos import journal
from tests.chaos.aim import InjectedFault
from tests.chaos.invariants import Evidence, Violation
from tests.chaos.processes import session_processes
from tests.chaos.world import World, stop_service
from tests.support.stack import wait_until

CONNECTIONS = """
SELECT application_name, state, query FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
LOCKS = "SELECT pid, objid FROM pg_locks WHERE locktype = 'advisory'"
LEAVE_TIMEOUT_SECONDS = 10.0


def gather_evidence(world: World, strikes: list[InjectedFault]) -> Evidence:
    """Gather all evidence, stopping the service on the way."""
    rows = world.postgres.fetch_rows("SELECT * FROM tasks_app_task ORDER BY created_at")
    images = world.postgres.fetch_rows("SELECT * FROM tasks_app_taskimage ORDER BY task_id, index")
    served = [violation for row in rows for violation in _check_served_images(world, row, images)]
    streams = _read_streams(world)
    leftovers = _stop_and_check(world)
    return Evidence(
        world=world,
        strikes=strikes,
        log=journal.read_entries(world.postgres),
        rows=rows,
        attempts=world.postgres.fetch_rows("SELECT * FROM tasks_app_taskattempt"),
        images=images,
        served=served,
        streams=streams,
        leftovers=leftovers,
    )


def _check_served_images(world: World, row: dict[str, Any], images: list[dict[str, Any]]) -> list[Violation]:
    """Fetch a task's images, and check that no further index is served."""
    mine = [image for image in images if image["task_id"] == row["id"]]
    found = []
    for image in mine:
        answer = world.api.get(f"/task/{row['id']}/images/{image['index']}")
        if answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != image["sha256"]:
            text = f"{image['file']}: {answer.status_code}, and not the bytes that the row tells of"
            found.append(Violation(kind="pictures", task=row["id"], text=text))
    beyond = world.api.get(f"/task/{row['id']}/images/{len(mine)}")
    if beyond.status_code != 404:
        text = f"picture {len(mine)} of {len(mine)} is served: {beyond.status_code}"
        found.append(Violation(kind="pictures", task=row["id"], text=text))
    return found


def _read_streams(world: World) -> dict[str, list[dict[str, Any]]]:
    """Return the progress events that Redis still has."""
    client: Any = world.base.redis.client
    found = {}
    for key in client.scan_iter("task:*:events"):
        entries = [fields for _, fields in client.xrange(key)]
        progress = [json.loads(fields[b"data"]) for fields in entries if fields[b"event"] == b"progress"]
        found[key.decode().split(":")[1]] = progress
    return found


def count_orphans(world: World) -> int:
    """Return the number of stored files that no row names, from runs that were killed while saving."""
    media = world.base.directory / "media"
    named = {row["file"] for row in world.postgres.fetch_rows("SELECT file FROM tasks_app_taskimage")}
    return sum(path.is_file() and str(path.relative_to(media)) not in named for path in media.rglob("*"))


def _stop_and_check(world: World) -> list[str]:
    """Stop the service, and return descriptions of everything it left behind."""
    statuses = stop_service(world)
    found = [f"a worker ended with {status} after SIGTERM" for status in statuses if status]
    sessions = [life.child.session for life in world.workers.all_processes()] + [world.web.session]
    found += [f"process {one}" for session in sessions for one in session_processes(session)]
    for what, sql in (("connection", CONNECTIONS), ("advisory lock", LOCKS)):
        found += [f"{what} {row}" for row in _wait_until_empty(world, sql)]
    return found


def _wait_until_empty(world: World, sql: Any) -> list[dict[str, Any]]:
    """Return the rows that remain after a timeout: PostgreSQL needs a moment to notice a closed connection."""
    try:
        return wait_until(lambda: world.postgres.fetch_rows(sql), lambda rows: not rows, patience=LEAVE_TIMEOUT_SECONDS)
    except AssertionError:
        return world.postgres.fetch_rows(sql)
