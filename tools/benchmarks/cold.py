"""Time from the start of a worker's process to the first step of a task that is already queued.

    uv run python -m tools.benchmarks.cold [--short] [--rounds 7]

Compared in turns with the minimum: `import torch, diffusers` and loading the same model.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from tests.support import stack
from tools.benchmarks.harness.bare import bare
from tools.benchmarks.harness.pipeline import MODELS
from tools.benchmarks.harness.report import Line, Target, arguments, machine, ratios, table
from tools.benchmarks.harness.world import World, world

BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a red house", "steps": 1}}


@dataclass(kw_only=True)
class Seconds:
    """Seconds since a process was started, by round; a worker claims before it imports torch."""

    claimed: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)
    stepped: list[float] = field(default_factory=list)


def start(here: World) -> tuple[float, float]:
    """Start a worker; return the seconds until it claimed the queued task and until it published the first step."""
    task = here.api.post("/task", json=BODY).raise_for_status().json()
    began = time.time()
    with here.worker():
        stack.wait_until(lambda: first_step_at(task["id"]), bool, patience=120)
    claimed_at = datetime.fromisoformat(here.api.get(task["urls"]["self"]).json()["started_at"]).timestamp()
    return claimed_at - began, first_step_at(task["id"]) - began


def first_step_at(task_id: str) -> float:
    """Return the time of the first step's event by the clock of Redis, or 0 if there is none."""
    from tasks_app.events import progress

    events: list[Any] = progress.client.xrange(progress.events_key(UUID(task_id))) or []
    for entry, fields in events:
        if json.loads(fields[b"data"]).get("step"):
            return int(entry.split(b"-")[0]) / 1000
    return 0.0


def measure(here: World, rounds: int) -> Seconds:
    """Start both in turns; the first round, which fills the disk's cache, does not count."""
    found = Seconds()
    for number in range(rounds + 1):
        claimed, by_service = start(here)
        with bare(MODELS / "demo") as loop:
            loaded, stepped = loop.loaded_at - loop.spawned_at, loop.first_step() - loop.spawned_at
        if number:
            found.claimed.append(claimed)
            found.service.append(by_service)
            found.loaded.append(loaded)
            found.stepped.append(stepped)
    return found


def lines(found: Seconds) -> list[Line]:
    """Return the table's lines."""
    most = Target(bound=1.2)
    return [
        Line(title="bare: import and load, s", values=found.loaded),
        Line(title="bare: to the first step, s", values=found.stepped),
        Line(title="worker: to the claim, s", values=found.claimed),
        Line(title="worker: to the first step, s", values=found.service),
        Line(title="worker by bare import and load", values=ratios(found.service, found.loaded), target=most),
        Line(title="worker by bare to the first step", values=ratios(found.service, found.stepped)),
    ]


def main() -> None:
    """Measure and print the table."""
    options = arguments(__doc__, rounds=7).parse_args()
    rounds = 1 if options.short else options.rounds
    with world() as here:
        found = measure(here, rounds)
    print(f"{rounds} rounds\n{machine()}\n\n{table(lines(found))}")


if __name__ == "__main__":
    main()
