"""Cost of `POST /task` while a worker computes, against a bare DRF view.

    uv run python -m tools.benchmarks.posts [--short] [--rounds 7]

The bare view inserts the same row and sends the same Dramatiq message (`servers/plain.py`). Each runs in one uvicorn
process on the same database and Redis, and receives requests from the same clients in turns; meanwhile the worker is
busy with tasks of a higher priority.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import httpx2

from tests.support import stack
from tools.benchmarks.harness.load import Plan, load
from tools.benchmarks.harness.report import Line, Target, arguments, machine, percentile, ratios, table
from tools.benchmarks.harness.world import World, world

CLIENTS = 4
HIGHEST = 10
# Each task keeps the worker busy for minutes.
LONG = {"model_id": "demo", "prompt": "a red house", "steps": 150, "num_images": 8}
SIDES = ("service", "bare view")
SHARES = (50, 95, 99)


@dataclass(kw_only=True)
class Seen:
    """Results of one side by round: requests per second, and percentiles in milliseconds."""

    rates: list[float] = field(default_factory=list)
    times: dict[int, list[float]] = field(default_factory=lambda: {share: [] for share in SHARES})


@contextmanager
def bare_view(here: World) -> Iterator[str]:
    """Run the bare view; yield its URL."""
    port = stack.free_port()
    url = f"http://127.0.0.1:{port}"
    env = {**here.env, "DJANGO_SETTINGS_MODULE": "tools.benchmarks.harness.servers.plain_settings"}
    command = [
        "-m",
        "uvicorn",
        "tools.benchmarks.harness.servers.plain:application",
        "--host=127.0.0.1",
        f"--port={port}",
    ]
    with (
        stack.run_process(here.directory / "plain.log", env, *command, "--lifespan=off", "--no-access-log"),
        httpx2.Client(base_url=url) as client,
    ):
        stack.wait_until(lambda: _answers(client), bool)
        yield url


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/task").status_code == 200
    except httpx2.TransportError:
        return False


@contextmanager
def busy_worker(here: World) -> Iterator[None]:
    """Keep a worker computing until the block ends."""
    with here.worker():
        body = {"task_type": "text-to-image", "priority": HIGHEST, "params": LONG}
        tasks = [here.api.post("/task", json=body).raise_for_status().json() for _ in range(3)]
        stack.wait_until(lambda: here.api.get(tasks[0]["urls"]["self"]).json()["progress"]["step"], bool)
        yield


def measure(here: World, plain: str, *, each: int, rounds: int) -> dict[str, Seen]:
    """Send requests to both sides in turns; the first round does not count, and queued tasks are deleted."""
    from tasks_app.models import Task

    plan = Plan(kind="queue", url="", clients=CLIENTS, each=each, steps=4)
    urls = {"service": str(here.api.base_url), "bare view": plain}
    seen = {side: Seen() for side in SIDES}
    for number in range(rounds + 1):
        for side in SIDES if number % 2 else reversed(SIDES):
            found = load(replace(plan, url=urls[side]))
            assert not found.lost, side
            Task.objects.filter(status="queued", priority__lt=HIGHEST).delete()
            if number:
                seen[side].rates.append(len(found.latencies) / found.seconds)
                for share, times in seen[side].times.items():
                    times.append(1000 * percentile(found.latencies, share))
    return seen


def lines(seen: dict[str, Seen]) -> list[Line]:
    """Return the table's lines."""
    ours, plain = (seen[side] for side in SIDES)
    found = [Line(title=f"{side}, requests a second", values=seen[side].rates, digits=0) for side in SIDES]
    found += [
        Line(title=f"{side}, p{share}, ms", values=seen[side].times[share], digits=1)
        for share in SHARES
        for side in SIDES
    ]
    at_least, at_most = Target(bound=0.8, at_least=True), Target(bound=2)
    found.append(Line(title="service by bare view, requests", values=ratios(ours.rates, plain.rates), target=at_least))
    slowest = ratios(ours.times[99], plain.times[99])
    return [*found, Line(title="service by bare view, p99", values=slowest, target=at_most)]


def main() -> None:
    """Measure and print the table."""
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--each", type=int, default=100, help="requests of each of 4 clients in a round")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.each = 2, 10
    with world() as here, bare_view(here) as plain, busy_worker(here):
        seen = measure(here, plain, each=options.each, rounds=options.rounds)
    print(
        f"{CLIENTS} clients, {options.each} requests each, {options.rounds} rounds\n{machine()}\n\n{table(lines(seen))}"
    )


if __name__ == "__main__":
    main()
