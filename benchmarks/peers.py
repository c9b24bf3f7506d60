"""The service beside LitServe and the server of diffusers' guide: same model, same clients, one worker each.

    uv sync --group bench && uv run python -m benchmarks.peers [--short] [--rounds 5]

8 clients ask for 8 pictures each, of each server in turns, where it can with batches and without. Then, while the same
clients ask, the process that holds the model is killed with SIGKILL, and what serves is started again once it has
ended, as a supervisor would: requests without a picture are counted.
"""

from __future__ import annotations

import importlib.util
import signal
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil

from benchmarks.load import Found, Plan, answers, load
from benchmarks.pipeline import MODELS
from benchmarks.report import Line, Target, arguments, grid, machine, percentile, ratios, table
from benchmarks.world import environment, service
from tests import stack
from tests.chaos.processes import Child, send

MISSING = "The peers are not installed: `uv sync --group bench` brings them."
BATCH = 4
START_SECONDS = 120.0
OURS = {"ours": "service", "ours batched": "service, batches"}
PEERS = {"lit": "LitServe", "lit batched": "LitServe, batches", "guide": "FastAPI, guide"}
TITLES = OURS | PEERS
# Whoever has batches is compared with those that have them, and all with the guide's server, which has none.
RIVALS = {"ours": ("lit", "guide"), "ours batched": ("lit batched", "guide")}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One server: how it is spoken to, and how the part of it that holds the model is started."""

    plan: Plan
    start: Callable[[], AbstractContextManager[Child]]


@dataclass(kw_only=True)
class Seen:
    """What one server showed, by round: pictures a second and p95 of the requests in milliseconds."""

    rates: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)


def installed() -> bool:
    """Return whether the peers are there."""
    return all(importlib.util.find_spec(name) for name in ("litserve", "fastapi"))


def sides(exits: ExitStack, folder: Path, extent: Plan) -> dict[str, Side]:
    """Return all servers; the services' own web servers run already, which their workers don't need to."""
    found = {name: _ours(exits, extent, MAX_BATCH=str(batch)) for name, batch in (("ours", 1), ("ours batched", BATCH))}
    for name, kind, module, more, ready in (
        ("lit", "lit", "lit", ["1"], "/health"),
        ("lit batched", "lit", "lit", [str(BATCH)], "/health"),
        ("guide", "guide", "guide", [], "/ready"),
    ):
        port = stack.free_port()
        plan = replace(extent, kind=kind, url=f"http://127.0.0.1:{port}", ready=ready)
        command = ["-m", f"benchmarks.servers.{module}", str(port), str(MODELS / "demo"), *more]
        found[name] = Side(plan=plan, start=_starter(folder / f"{name}.log", command, plan))
    return found


def _ours(exits: ExitStack, extent: Plan, **variables: str) -> Side:
    world = exits.enter_context(service(**variables))
    return Side(plan=replace(extent, kind="task", url=str(world.api.base_url)), start=world.worker)


def _starter(log: Path, command: list[str], plan: Plan) -> Callable[[], AbstractContextManager[Child]]:
    @contextmanager
    def start() -> Iterator[Child]:
        with stack.part(log, environment(), *command) as child, httpx2.Client(base_url=plan.url) as client:
            stack.until(lambda: answers(client, plan.ready), bool, patience=START_SECONDS)
            yield child

    return start


def race(sides: Mapping[str, Side], rounds: int) -> dict[str, Seen]:
    """Let all draw in turns, each round beginning with another one; the first, which loads models, does not count."""
    seen = {name: Seen() for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            plan = sides[name].plan
            found = load(plan if number else replace(plan, each=1))
            assert not found.lost, name
            if number:
                seen[name].rates.append(len(found.latencies) / found.seconds)
                seen[name].slowest.append(1000 * percentile(found.latencies, 95))
    return seen


def kill(side: Side, running: Child, exits: ExitStack) -> Found:
    """Kill what holds the model once a quarter of the pictures have come; start it anew when all of it has ended."""
    at = max(1, side.plan.clients * side.plan.each // 4)

    def strike(count: int) -> None:
        if count == at:
            send(holder(running), signal.SIGKILL)
            stack.until(running.poll, lambda status: status is not None)
            exits.enter_context(side.start())

    return load(side.plan, on_picture=strike)


def holder(child: Child) -> int:
    """Return the process that holds the model: of a server's processes the one with most memory."""
    assert child.command is not None
    top = psutil.Process(child.command)
    return int(max([top, *top.children(recursive=True)], key=lambda one: one.memory_info().rss).pid)


def tables(seen: Mapping[str, Seen], killed: Mapping[str, Found]) -> str:
    """Return the tables of both parts."""
    rates = [["", "pictures a second", "min … max", "p95 of a request, ms", "min … max"]]
    rates += [[TITLES[name], *_cells(one.rates, 2), *_cells(one.slowest, 0)] for name, one in seen.items()]
    lines: list[Line] = []
    for name, rivals in RIVALS.items():
        for rival in rivals:
            lines += _against(name, rival, seen)
    losses = [["SIGKILL of what holds the model", "requests", "without a picture", "seconds until all were answered"]]
    for name, found in killed.items():
        total = len(found.latencies) + found.lost
        losses.append([TITLES[name], str(total), str(found.lost), f"{found.seconds:.0f}"])
    return "\n\n".join([grid(rates), table(lines), grid(losses)])


def _cells(values: list[float], digits: int) -> list[str]:
    return [f"{statistics.median(values):.{digits}f}", f"{min(values):.{digits}f} … {max(values):.{digits}f}"]


def _against(name: str, rival: str, seen: Mapping[str, Seen]) -> list[Line]:
    mine, its = seen[name], seen[rival]
    title = f"{TITLES[name]}, by {TITLES[rival]}"
    faster, slower = Target(bound=1, at_least=True), Target(bound=1)
    return [
        Line(title=f"{title}: rate", values=ratios(mine.rates, its.rates), target=faster),
        Line(title=f"{title}: p95", values=ratios(mine.slowest, its.slowest), target=slower),
    ]


def main() -> None:
    """Measure and print the tables."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    if not installed():
        print(MISSING)
        return
    extent = Plan(kind="", url="", clients=8, each=8, steps=options.steps)
    if options.short:
        options.rounds, extent = 1, replace(extent, clients=4, each=2, steps=2)
    with ExitStack() as exits, TemporaryDirectory(prefix="dh-peers-") as folder:
        servers = sides(exits, Path(folder), extent)
        running = {name: exits.enter_context(side.start()) for name, side in servers.items()}
        seen = race(servers, options.rounds)
        killed = {name: kill(servers[name], running[name], exits) for name in ("ours batched", "lit batched", "guide")}
    print(f"demo, {extent.steps} steps, {extent.clients} clients with {extent.each} pictures each, batches of {BATCH}")
    print(f"{machine()}\n\n{tables(seen, killed)}")


if __name__ == "__main__":
    main()
