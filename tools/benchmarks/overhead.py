"""Overhead of the service over the bare pipeline: N images over HTTP by one worker, against a loop around `pipe()`.

    uv run python -m tools.benchmarks.overhead [--short] [--rounds 7] [--model demo --models-dir DIR --device cuda]

Both sides use the same model, steps and threads, each in its own process, and alternate.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tools.benchmarks.harness.bare import Bare, bare
from tools.benchmarks.harness.load import Plan, load
from tools.benchmarks.harness.pipeline import MODELS
from tools.benchmarks.harness.report import Line, Target, arguments, machine, ratios, table
from tools.benchmarks.harness.world import World, service

CLIENTS = 4


@dataclass(kw_only=True)
class Seconds:
    """Seconds per image in each round: of the bare loop, of one client, and of four clients that keep a queue.

    `idle` is the time that the pipeline was idle between two runs while tasks waited.
    """

    bare: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)


def measure(here: World, loop: Bare, *, model: str, images: int, steps: int, rounds: int) -> Seconds:
    """Let both sides generate in turns; the first round, which loads the model, does not count."""
    found = Seconds()
    queue = Plan(
        kind="task", url=str(here.api.base_url), clients=CLIENTS, each=images // CLIENTS, steps=steps, model=model
    )
    alone = Plan(kind="task", url=str(here.api.base_url), clients=1, each=images // CLIENTS, steps=steps, model=model)
    for number in range(rounds + 1):
        by_loop = loop.draw(images, steps=steps) / images
        by_queue = load(queue).seconds / images
        idle = statistics.median(gaps(newest(here, images)))
        by_one = load(alone).seconds / (images // CLIENTS)
        if number:
            found.bare.append(by_loop)
            found.queued.append(by_queue)
            found.idle.append(idle)
            found.alone.append(by_one)
    return found


def newest(here: World, count: int) -> list[dict[str, Any]]:
    """Return the newest tasks from the API."""
    tasks: list[dict[str, Any]] = here.api.get(f"/task?limit={count}").raise_for_status().json()["results"]
    return tasks


def gaps(tasks: Sequence[dict[str, Any]]) -> list[float]:
    """Return the seconds from each claim to the next, both made in the same phase, less the run's own duration."""
    runs = sorted(tasks, key=lambda task: task["started_at"])
    return [
        (datetime.fromisoformat(later["started_at"]) - datetime.fromisoformat(earlier["started_at"])).total_seconds()
        - sum(earlier["timings"][phase] for phase in ("loading", "denoising", "decoding"))
        for earlier, later in pairwise(runs)
    ]


def lines(found: Seconds, *, accelerated: bool) -> list[Line]:
    """Return the table's lines; the target is images per second on an accelerator, else added time."""
    added = [1000 * (mine - its) for mine, its in zip(found.queued, found.bare, strict=True)]
    added_alone = [1000 * (mine - its) for mine, its in zip(found.alone, found.bare, strict=True)]
    idle = [1000 * one for one in found.idle]
    most = None if accelerated else Target(bound=60, unit=" ms")
    least = Target(bound=0.97, at_least=True) if accelerated else None
    return [
        Line(title="bare loop, ms a picture", values=[1000 * one for one in found.bare], digits=0),
        Line(title="service, 4 clients", values=[1000 * one for one in found.queued], digits=0),
        Line(title="… added to the bare loop", values=added, unit=" ms", digits=1, target=most),
        Line(title="… pictures a second, by bare", values=ratios(found.bare, found.queued), target=least),
        Line(
            title="… the pipeline idle between two runs",
            values=idle,
            unit=" ms",
            digits=1,
        ),
        Line(title="service, 1 client", values=[1000 * one for one in found.alone], digits=0),
        Line(title="… added to the bare loop", values=added_alone, unit=" ms", digits=1),
    ]


def main() -> None:
    """Measure and print the table."""
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--images", type=int, default=12, help="in each round; a multiple of 4")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--model", default="demo", help="a folder in --models-dir")
    parser.add_argument("--models-dir", type=Path, default=MODELS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.images, options.steps = 2, 4, 5
    variables = {"MAX_BATCH": "1", "INFERENCE_DEVICE": options.device, "INFERENCE_DTYPE": options.dtype}
    folder = options.models_dir / options.model
    with (
        service(MODELS_DIR=str(options.models_dir), **variables) as world,
        world.worker(),
        bare(folder, device=options.device, dtype=options.dtype) as loop,
    ):
        extent = {"images": options.images, "steps": options.steps, "rounds": options.rounds}
        found = measure(world, loop, model=options.model, **extent)
    print(f"{options.model}, {options.steps} steps, {options.images} pictures a round, {options.rounds} rounds")
    print(f"{machine()}\n\n{table(lines(found, accelerated=options.device != 'cpu'))}")


if __name__ == "__main__":
    main()
