"""What progress and previews cost: time in the step callback over the time of the run, with the demo model.

    uv run python -m benchmarks.previews [--runs 7] [--steps 50]

Runs without and with previews take turns. The callback is what the inference thread pays; drawing and encoding happen
in another thread while the next step is computed, and are printed beside it.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks_app import previews
from tasks_app.contracts import GenerationRequest, Progress
from tasks_app.handlers.diffusers.call import Call
from tasks_app.handlers.diffusers.handler import DiffusersHandler

MODELS = Path(__file__).resolve().parent.parent / "models"


@dataclass(kw_only=True)
class Cost:
    """Seconds of one run."""

    whole: float = 0.0
    callbacks: float = 0.0
    drawing: float = 0.0
    shown: int = 0


@dataclass(kw_only=True)
class Drawer:
    """The other thread: it draws and encodes as the worker's actor thread does."""

    cost: Cost
    waiting: queue.SimpleQueue[Callable[[int], Any] | None] = field(default_factory=queue.SimpleQueue)

    def work(self) -> None:
        """Draw until told to end."""
        while (draw := self.waiting.get()) is not None:
            began = time.thread_time()
            previews.encode(draw(0))
            self.cost.drawing += time.thread_time() - began
            self.cost.shown += 1

    def report(self, progress: Progress) -> None:
        """Hand a preview over."""
        if progress.preview is not None:
            self.waiting.put(progress.preview)


@contextmanager
def timed_callbacks(cost: Cost) -> Iterator[None]:
    """Add up how long the step callback takes."""
    original = Call._stepped

    def stepped(self: Call, *arguments: Any) -> None:
        began = time.perf_counter()
        original(self, *arguments)
        cost.callbacks += time.perf_counter() - began

    Call._stepped = stepped  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Call._stepped = original  # type: ignore[method-assign]


def measure(handler: DiffusersHandler, steps: int, seed: int) -> Cost:
    """Run once."""
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


def spread(values: list[float]) -> str:
    """Write median, minimum and maximum as percentages."""
    return f"{100 * statistics.median(values):6.2f} %  ({100 * min(values):.2f} … {100 * max(values):.2f})"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    handlers = {
        every: DiffusersHandler(models_dir=MODELS, hub_cache=MODELS, device="cpu", preview_every=every)
        for every in (0, 2)
    }
    for handler in handlers.values():
        measure(handler, 3, 0)  # loads the model, finds the map
    costs: dict[int, list[Cost]] = {0: [], 2: []}
    for seed in range(options.runs):
        for every, handler in handlers.items():
            costs[every].append(measure(handler, options.steps, seed))
    print(f"{options.runs} runs of {options.steps} steps of the demo model, in turns\n")
    print("                                     median   (min … max)")
    for every, label in ((0, "without previews"), (2, "with previews   ")):
        print(f"callbacks / run, {label}:  {spread([cost.callbacks / cost.whole for cost in costs[every]])}")
    print(f"drawing / run, another thread:      {spread([cost.drawing / cost.whole for cost in costs[2]])}")
    ratios = [with_.whole / without.whole for with_, without in zip(costs[2], costs[0], strict=True)]
    print(f"run with / run without:             {spread(ratios)}")
    print(f"previews a run: {statistics.median(cost.shown for cost in costs[2]):.0f}")


if __name__ == "__main__":
    main()
