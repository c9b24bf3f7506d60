"""Gain of micro-batches: 64 queued tasks, against the bare pipeline one at a time and in the same batches.

    uv run python -m tools.benchmarks.batching [--short] [--rounds 5] [--batch 4]

Measured from the moment the queue is resumed to the end of the last task; all sides alternate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support import stack
from tools.benchmarks.harness.bare import Bare, bare
from tools.benchmarks.harness.load import Plan, load
from tools.benchmarks.harness.pipeline import MODELS
from tools.benchmarks.harness.report import Line, Target, arguments, machine, ratios, table
from tools.benchmarks.harness.world import World, world


@dataclass(kw_only=True)
class Rates:
    """Images per second, by round."""

    service: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    batched: list[float] = field(default_factory=list)


def drain(here: World, images: int, steps: int) -> float:
    """Queue tasks while the queue is paused, resume it, and return the seconds until the last one has ended."""
    from django.db.models import Max
    from django.utils import timezone

    from tasks_app import services
    from tasks_app.models import Pause, Task

    services.pause_claims(Pause.Scope.QUEUE)
    load(Plan(kind="queue", url=str(here.api.base_url), clients=4, each=images // 4, steps=steps))
    resumed_at = timezone.now()
    services.resume_claims(Pause.Scope.QUEUE)
    waiting = Task.objects.filter(finished_at=None)
    stack.wait_until(waiting.count, lambda left: left == 0, patience=600)
    ended = Task.objects.filter(created_at__lte=resumed_at)
    assert not ended.exclude(status="succeeded").exists()
    seconds: float = (ended.aggregate(last=Max("finished_at"))["last"] - resumed_at).total_seconds()
    return seconds


def measure(here: World, loop: Bare, *, images: int, steps: int, batch: int, rounds: int) -> Rates:
    """Let all sides generate in turns; the first round, which loads the model, does not count."""
    rates = Rates()
    for number in range(rounds + 1):
        count = images if number else 2 * batch
        by_service = count / drain(here, count, steps)
        single = count / loop.draw(count, steps=steps)
        batched = count / loop.draw(count, steps=steps, batch=batch)
        if number:
            rates.service.append(by_service)
            rates.single.append(single)
            rates.batched.append(batched)
    return rates


def lines(rates: Rates, batch: int) -> Sequence[Line]:
    """Return the table's lines."""
    least = Target(bound=0.9, at_least=True)
    return [
        Line(title="bare pipeline, one at a time, pictures a second", values=rates.single),
        Line(title=f"bare pipeline, {batch} in a call", values=rates.batched),
        Line(title=f"service, MAX_BATCH={batch}", values=rates.service),
        Line(title="service by bare, same batch", values=ratios(rates.service, rates.batched), target=least),
        Line(title="service by bare, one at a time", values=ratios(rates.service, rates.single)),
    ]


def main() -> None:
    """Measure and print the table."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--images", type=int, default=64, help="a multiple of 4")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    if options.short:
        options.rounds, options.images, options.steps = 1, 8, 4
    with world(MAX_BATCH=str(options.batch)) as here, here.worker(), bare(MODELS / "demo") as loop:
        extent = {"images": options.images, "steps": options.steps, "batch": options.batch, "rounds": options.rounds}
        rates = measure(here, loop, **extent)
    print(f"demo, {options.images} tasks that wait, {options.steps} steps, {options.rounds} rounds")
    print(f"{machine()}\n\n{table(lines(rates, options.batch))}")


if __name__ == "__main__":
    main()
