"""Cost of hundreds of open event streams for the web server, and for POST requests during that time.

    uv run python -m tools.benchmarks.streams [--short] [--json FILE]

Four situations alternate in one run: no other load; 500 streams of queued tasks; 50 busy tasks without streams;
and 500 streams of queued tasks together with 50 streams of the busy tasks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.support import stack
from tools.benchmarks.harness.publisher import TOTAL_STEPS
from tools.benchmarks.harness.report import percentile
from tools.benchmarks.harness.world import NAME, World, world

IDLE, ACTIVE = 500, 50
SITUATIONS = {"nothing": (0, False), "idle": (IDLE, False), "busy": (0, True), "streams": (IDLE, True)}
SHARES = (50, 95, 99)
TITLES = {
    "nothing": "nothing else",
    "idle": "500 idle streams",
    "busy": "50 busy tasks, no streams",
    "streams": "50 busy tasks, 550 streams",
}
BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a red house", "steps": 4}}


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Size of the measurement; `settling` POSTs run first, until newly opened streams are idle, and don't count."""

    rounds: int = 5
    settling: int = 150
    posts: int = 300


SHORT = Extent(rounds=1, settling=10, posts=30)


@dataclass(kw_only=True)
class Held:
    """Resources that the web process holds at one moment; memory is in MiB."""

    resident: float
    proportional: float
    threads: int
    postgres: int
    redis: int


@dataclass(kw_only=True)
class Seen:
    """Measurements of one situation over all rounds; times are in milliseconds."""

    posts: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)


def held(pid: int) -> Held:
    """Read the web process's resources, and count the connections with its name."""
    from django.db import connection

    from tasks_app.events import progress

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [NAME])
        (postgres,) = cursor.fetchone()
    memory = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return Held(
        resident=int(memory["Rss:"]) / 1024,
        proportional=int(memory["Pss:"]) / 1024,
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        postgres=postgres,
        redis=sum(client["name"] == NAME for client in progress.client.client_list()),
    )


def queued(number: int, priority: int) -> list[UUID]:
    """Queue tasks that no worker will claim."""
    from tasks_app.models import Task

    fields: dict[str, Any] = {"task_type": "text-to-image", "provider": "diffusers", "model_id": "demo", "params": {}}
    rows = [Task(**fields, seed=7, total_steps=TOTAL_STEPS, priority=priority) for _ in range(number)]
    return [task.pk for task in Task.objects.bulk_create(rows)]


def running(number: int) -> list[UUID]:
    """Queue and claim tasks, and return their ids."""
    from tasks_app.queue import lifecycle

    queued(number, priority=10)
    claims = [lifecycle.claim_batch(worker="benchmark:1", lease_seconds=3600) for _ in range(number)]
    return [task.pk for claimed in claims for task in claimed]


def post(world: World, number: int) -> list[float]:
    """Post tasks one after the other, delete their rows, and return the milliseconds that each request took."""
    from tasks_app.models import Task

    times, posted = [], []
    for _ in range(number):
        started = time.perf_counter()
        answer = world.api.post("/task", json=BODY)
        times.append(1000 * (time.perf_counter() - started))
        posted.append(answer.raise_for_status().json()["id"])
    Task.objects.filter(pk__in=posted).delete()
    return times


@contextmanager
def publishing(world: World, task_ids: Sequence[UUID]) -> Iterator[None]:
    """Run the publisher; the block starts once it publishes."""
    from tasks_app.events import progress

    arguments = ["-m", "tools.benchmarks.harness.publisher", *map(str, task_ids)]
    with stack.run_process(world.directory / "publisher.log", world.env, *arguments):
        stack.wait_until(lambda: progress.client.exists(progress.progress_key(task_ids[-1])), bool)
        yield


@contextmanager
def watching(world: World, task_ids: Sequence[UUID], found: Path) -> Iterator[None]:
    """Keep a stream of each task open; the block starts once all of them have begun."""
    found.unlink(missing_ok=True)
    url = world.api.base_url
    paths = [f"/task/{task_id}/events" for task_id in task_ids]
    arguments = ["-m", "tools.benchmarks.harness.clients", url.host, str(url.port), str(found), *paths]
    with stack.run_process(world.directory / "clients.log", world.env, *arguments):
        stack.wait_until(found.exists, bool)
        yield


def observe(world: World, idle: Sequence[UUID], *, busy: bool, extent: Extent, seen: Seen) -> None:
    """Set up one situation, post tasks, and record the measurements."""
    active = running(ACTIVE) if busy else []
    deliveries = world.directory / "deliveries.txt"
    with ExitStack() as exits:
        if busy:
            exits.enter_context(publishing(world, active))
        if idle:
            exits.enter_context(watching(world, [*idle, *active], deliveries))
        post(world, extent.settling)
        settled_at = time.time()
        seen.posts += post(world, extent.posts)
        assert world.web.command is not None
        seen.held.append(held(world.web.command))
    if idle:
        lines = [line.split() for line in deliveries.read_text().splitlines()[1:]]
        seen.deliveries += [float(late) for sent, late in lines if float(sent) >= settled_at]
    forget(active)


def forget(task_ids: Sequence[UUID]) -> None:
    """Delete tasks."""
    from tasks_app.models import Task

    Task.objects.filter(pk__in=task_ids).delete()


def measure(world: World, extent: Extent) -> dict[str, Seen]:
    """Measure all situations in each round, starting each round with a different one."""
    found = {name: Seen() for name in SITUATIONS}
    idle = queued(IDLE, priority=0)
    for number in range(extent.rounds):
        names = list(SITUATIONS)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            streams, busy = SITUATIONS[name]
            observe(world, idle[:streams], busy=busy, extent=extent, seen=found[name])
    return found


def table(found: dict[str, Seen]) -> str:
    """Return the measurements as a table; memory is that of the first round, because later rounds don't free it."""
    rows: list[tuple[str, Callable[[Seen], str]]] = [
        ("RSS, MiB", lambda seen: f"{seen.held[0].resident:.0f}"),
        ("PSS, MiB", lambda seen: f"{seen.held[0].proportional:.0f}"),
        ("threads", lambda seen: str(max(one.threads for one in seen.held))),
        ("connections to PostgreSQL", lambda seen: str(max(one.postgres for one in seen.held))),
        ("connections to Redis", lambda seen: str(max(one.redis for one in seen.held))),
    ]
    for share in SHARES:
        rows.append((f"POST p{share}, ms", partial(_percentile, "posts", share)))
    for share in SHARES[:2]:
        rows.append((f"delivery p{share}, ms", partial(_percentile, "deliveries", share)))
    lines = [["", *TITLES.values()], ["---"] * (len(TITLES) + 1)]
    lines += [[title, *(cell(found[name]) for name in TITLES)] for title, cell in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n" + ratios(found)


def _percentile(name: str, share: int, seen: Seen) -> str:
    values = getattr(seen, name)
    return f"{percentile(values, share):.1f}" if values else ""


def ratios(found: dict[str, Seen]) -> str:
    """Return the ratio of POST times with streams to those of the same situation without them."""
    pairs = [("500 idle streams", "idle", "nothing"), ("500 idle and 50 active streams", "streams", "busy")]
    return "\n".join(
        f"POST with {title}, by that without: "
        + ", ".join(
            f"p{share} ×{percentile(found[more].posts, share) / percentile(found[less].posts, share):.2f}"
            for share in SHARES
        )
        for title, more, less in pairs
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one short round: times mean little")
    parser.add_argument("--json", type=Path, help="write what was seen to this file")
    options = parser.parse_args()
    with world() as here:
        found = measure(here, SHORT if options.short else Extent())
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps({name: asdict(seen) for name, seen in found.items()}))


if __name__ == "__main__":
    main()
