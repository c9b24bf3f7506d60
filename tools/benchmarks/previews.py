"""Cost of progress and previews: time in the step callback as a share of the run, with the demo model.

    uv run python -m tools.benchmarks.previews [--short] [--rounds 7] [--steps 50]

Runs without and with previews alternate. The callback is the cost for the inference thread; rendering and encoding
previews happen in another thread while the next step is computed, and are printed separately.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tasks_app.engine.diffusers.call import PipelineCall
from tasks_app.engine.diffusers.handler import DiffusersHandler
from tasks_app.engine.types import GenerationRequest, Progress
from tasks_app.images import previews
from tools.benchmarks.harness.pipeline import MODELS
from tools.benchmarks.harness.report import Line, Target, arguments, machine, ratios, table

MOST = {0: Target(bound=2, unit=" %"), 2: Target(bound=3, unit=" %")}
# Maximum slowdown of a run by previews: torch threads in addition to its own made it 2.3 times as long on some CPUs.
SLOWER = Target(bound=1.1)


@dataclass(kw_only=True)
class Cost:
    """Seconds of one run."""

    whole: float = 0.0
    callbacks: float = 0.0
    drawing: float = 0.0
    shown: int = 0


@dataclass(kw_only=True)
class Drawer:
    """Preview renderer for a second thread, which renders and encodes as the worker's actor thread does."""

    cost: Cost
    waiting: queue.SimpleQueue[Callable[[int], Any] | None] = field(default_factory=queue.SimpleQueue)

    def work(self) -> None:
        """Render previews until None arrives."""
        while (draw := self.waiting.get()) is not None:
            began = time.thread_time()
            previews.encode_preview(draw(0))
            self.cost.drawing += time.thread_time() - began
            self.cost.shown += 1

    def report(self, progress: Progress) -> None:
        """Queue a preview for rendering."""
        if progress.preview is not None:
            self.waiting.put(progress.preview)


@contextmanager
def timed_callbacks(cost: Cost) -> Iterator[None]:
    """Measure the total time in the step callback."""
    original = PipelineCall._report_step

    def stepped(self: PipelineCall, *arguments: Any) -> None:
        began = time.perf_counter()
        original(self, *arguments)
        cost.callbacks += time.perf_counter() - began

    PipelineCall._report_step = stepped  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        PipelineCall._report_step = original  # type: ignore[method-assign]


def measure(handler: DiffusersHandler, steps: int, seed: int) -> Cost:
    """Run once and return the cost."""
    request = GenerationRequest(
        model_id="demo",
        revision="",
        prompt="a red house",
        negative_prompt="",
        steps=steps,
        guidance_scale=4.0,
        seed=seed,
        width=None,
        height=None,
        num_images=1,
    )
    cost = Cost()
    drawer = Drawer(cost=cost)
    thread = threading.Thread(target=drawer.work)
    thread.start()
    with timed_callbacks(cost):
        began = time.perf_counter()
        handler.run([request], drawer.report)
        cost.whole = time.perf_counter() - began
    drawer.waiting.put(None)
    thread.join()
    return cost


def lines(costs: dict[int, list[Cost]]) -> list[Line]:
    """Return the table's lines."""
    found = [
        Line(
            title=f"callbacks by run, {'with' if every else 'without'} previews",
            values=[100 * cost.callbacks / cost.whole for cost in costs[every]],
            unit=" %",
            target=MOST[every],
        )
        for every in costs
    ]
    drawing = [100 * cost.drawing / cost.whole for cost in costs[2]]
    whole = ratios([cost.whole for cost in costs[2]], [cost.whole for cost in costs[0]])
    shown = [cost.shown for cost in costs[2]]
    return [
        *found,
        Line(title="drawing by run, in another thread", values=drawing, unit=" %"),
        Line(title="run with by run without", values=whole, target=SLOWER),
        Line(title="previews a run", values=shown, digits=0),
    ]


def main() -> None:
    """Measure and print the table."""
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    if options.short:
        options.rounds, options.steps = 2, 15
    handlers = {
        every: DiffusersHandler(models_dir=MODELS, hub_cache=MODELS, device="cpu", preview_every=every)
        for every in (0, 2)
    }
    for handler in handlers.values():
        measure(handler, 3, 0)  # loads the model and fits the map from latents to RGB
    costs: dict[int, list[Cost]] = {0: [], 2: []}
    for seed in range(options.rounds):
        for every, handler in handlers.items():
            costs[every].append(measure(handler, options.steps, seed))
    print(f"{options.rounds} rounds of {options.steps} steps of the demo model\n{machine()}\n\n{table(lines(costs))}")


if __name__ == "__main__":
    main()
