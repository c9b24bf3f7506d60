"""Target selection for faults: a random kill mostly hits a worker that is still booting."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.chaos.proxy import Proxy, Rule
from tests.chaos.world import World
from tests.support.stack import wait_until

VICTIM_TIMEOUT_SECONDS = 30.0


@dataclass(kw_only=True)
class InjectedFault:
    """One injected fault. With a task and an attempt, it targeted that claim."""

    kind: str
    at: float
    hit: bool = False
    task: UUID | None = None
    attempt: int = 0
    loses_claim: bool = False
    note: str = ""


def find_victim(world: World) -> dict[str, Any]:
    """Wait for a run with at least half of its steps left, of a task that has not lost a worker yet."""

    def look() -> list[dict[str, Any]]:
        rows = world.postgres.fetch_rows(
            "SELECT * FROM tasks_app_task WHERE status = 'running' AND lost_workers = 0 AND cancel_requested_at IS NULL"
            " AND params->>'prompt' LIKE 'pace%%' AND step > 0 AND step * 2 <= total_steps ORDER BY random()"
        )
        return [row for row in rows if str(row["id"]) not in world.doomed and _is_holder_up(world, row)]

    return wait_until(look, bool, patience=VICTIM_TIMEOUT_SECONDS)[0]


def _is_holder_up(world: World, row: dict[str, Any]) -> bool:
    with suppress(LookupError):
        return world.workers.find_by_pid(pid_of(row)).down is None
    return False


def pid_of(row: dict[str, Any]) -> int:
    """Return the id of the process that holds a row."""
    return int(row["worker"].rpartition(":")[2])


def is_still_held(world: World, row: dict[str, Any]) -> bool:
    """Return whether the same run holds the row."""
    now = world.get_row(row["id"])
    return (now["status"], now["attempt"]) == ("running", row["attempt"])


@contextmanager
def arm_rule(proxy: Proxy, rule: Rule) -> Iterator[Rule]:
    """Keep a rule armed until the block ends or the rule has been applied."""
    try:
        yield proxy.add_rule(rule)
    finally:
        proxy.remove_rule(rule)
