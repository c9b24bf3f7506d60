"""Two models that alternate in the queue of a worker with memory for one: its claim order against first in, first out.

    uv run python -m tools.benchmarks.switching [--short] [--rounds 5]

40 tasks are queued when the worker starts, every second one for the other model. First in, first out is the same
worker with `MODEL_AFFINITY_SECONDS=0` and `MAX_BATCH=1`. Times count from the first claim, so they exclude the start
of the process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import stack
from tools.benchmarks.harness.pipeline import GUIDANCE, MODELS
from tools.benchmarks.harness.report import Line, Target, arguments, machine, table
from tools.benchmarks.harness.world import World, world

TWO = ("first", "second")
PREFERENCE_SECONDS = 10
ORDERS: Mapping[str, Mapping[str, str]] = {
    "service": {},
    "first in, first out": {"MODEL_AFFINITY_SECONDS": "0", "MAX_BATCH": "1"},
}


@dataclass(kw_only=True)
class Seen:
    """Results of one claim order by round; times are in seconds."""

    loads: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    oldest: list[float] = field(default_factory=list)
    passed_over: list[float] = field(default_factory=list)


@contextmanager
def two_models() -> Iterator[Path]:
    """Yield a folder with two copies of the demo model."""
    with TemporaryDirectory(prefix="dh-two-", dir="/tmp") as folder:
        for name in TWO:
            shutil.copytree(MODELS / "demo", Path(folder) / name)
        yield Path(folder)


def work(here: World, number: int, *, tasks: int, steps: int, order: str, seen: Seen) -> None:
    """Queue tasks, run a worker until the last one has ended, and record the results."""
    from django.db.models import Max

    from tasks_app.models import Task, Worker

    Task.objects.all().delete()
    for index in range(tasks):
        params = {"model_id": TWO[index % 2], "prompt": f"a red house {index}", "steps": steps}
        body = {"task_type": "text-to-image", "params": {**params, "guidance_scale": GUIDANCE}}
        here.api.post("/task", json=body).raise_for_status()
    name = f"{order} {number}"
    with here.worker(WORKER_NAME=name, **ORDERS[order]):
        waiting = Task.objects.filter(finished_at=None)
        stack.wait_until(waiting.count, lambda left: left == 0, patience=600)
        # The worker's row, which is written every two seconds, must include the last load.
        ended = Task.objects.aggregate(last=Max("finished_at"))["last"]
        row = stack.wait_until(lambda: Worker.objects.get(name=name), lambda row: bool(row.seen_at > ended))
    seen.loads.append(sum(use["loads"] for use in row.uses))
    look(seen)


def look(seen: Seen) -> None:
    """Read the times of one round from the rows."""
    from tasks_app.models import Task

    rows = list(Task.objects.order_by("created_at"))
    starts = [row.started_at for row in rows if row.started_at is not None]
    ends = [row.finished_at for row in rows if row.finished_at is not None]
    assert len(starts) == len(ends) == len(rows)
    first = min(starts)
    seen.whole.append((max(ends) - first).total_seconds())
    seen.oldest.append((max(starts) - first).total_seconds())
    # The second task heads the queue once the first is claimed. Negative times count as 0, because images are saved
    # during the next run.
    seen.passed_over.append(max(0.0, (starts[1] - ends[0]).total_seconds()))


def lines(seen: Mapping[str, Seen]) -> list[Line]:
    """Return the table's lines."""
    found: list[Line] = []
    for name, one in seen.items():
        ours = name == "service"
        loads = Target(bound=4) if ours else None
        passed = Target(bound=PREFERENCE_SECONDS + 1, unit=" s") if ours else None
        found += [
            Line(title=f"{name}: loads", values=one.loads, digits=0, target=loads),
            Line(title=f"{name}: all tasks, s", values=one.whole, digits=1),
            Line(title=f"{name}: longest wait, s", values=one.oldest, digits=1),
            Line(title=f"{name}: first in line passed over for, s", values=one.passed_over, digits=1, target=passed),
        ]
    return found


def main() -> None:
    """Measure and print the table."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    if options.short:
        options.rounds, options.tasks, options.steps = 1, 8, 2
    seen = {order: Seen() for order in ORDERS}
    with two_models() as folder, world(MODELS_DIR=str(folder)) as here:
        for number in range(options.rounds):
            for order in ORDERS:
                work(here, number, tasks=options.tasks, steps=options.steps, order=order, seen=seen[order])
    print(f"{options.tasks} tasks, two models, {options.steps} steps, {options.rounds} rounds, room for one model")
    print(f"{machine()}\n\n{table(lines(seen))}")


if __name__ == "__main__":
    main()
