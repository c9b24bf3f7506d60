"""The service compared with LitServe and the server of diffusers' guide: same model, same clients, one worker each.

    uv sync --group bench && uv run python -m tools.benchmarks.peers [--short] [--rounds 5]

8 clients request 8 images each from each server in turns, with and without batches where the server supports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.processes import Child
from tools.benchmarks.harness.load import Plan, load
from tools.benchmarks.harness.report import Line, Target, arguments, machine, percentile, ratios, table
from tools.benchmarks.harness.sides import BATCH, MISSING, PEERS, TITLES, Side, halted, installed, ours, peer

# Servers with batches are compared with one another, and all with the guide's server, which has none.
RIVALS = {"ours": ("lit", "guide"), "ours batched": ("lit batched", "guide")}


@dataclass(kw_only=True)
class Seen:
    """Results of one server by round: images per second, and the p95 of the requests in milliseconds."""

    rates: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)


def race(sides: Mapping[str, Side], running: Mapping[str, Child], rounds: int) -> dict[str, Seen]:
    """Run all servers in turns, starting each round with a different one; the first, which loads models, doesn't count.

    While one server works, the others are suspended.
    """
    seen = {name: Seen() for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            plan = sides[name].plan
            with halted(child for other, child in running.items() if other != name):
                found = load(plan if number else replace(plan, each=1))
            assert not found.lost, name
            if number:
                seen[name].rates.append(len(found.latencies) / found.seconds)
                seen[name].slowest.append(1000 * percentile(found.latencies, 95))
    return seen


def lines(seen: Mapping[str, Seen]) -> list[Line]:
    """Return the table's lines."""
    found = [Line(title=f"{TITLES[name]}, pictures a second", values=one.rates) for name, one in seen.items()]
    found += [Line(title=f"{TITLES[name]}, p95, ms", values=one.slowest, digits=0) for name, one in seen.items()]
    faster, slower = Target(bound=1, at_least=True), Target(bound=1)
    for name, rival in [(name, rival) for name, rivals in RIVALS.items() for rival in rivals]:
        mine, its, title = seen[name], seen[rival], f"{TITLES[name]} by {TITLES[rival]}"
        found.append(Line(title=f"{title}: pictures", values=ratios(mine.rates, its.rates), target=faster))
        found.append(Line(title=f"{title}: p95", values=ratios(mine.slowest, its.slowest), target=slower))
    return found


def main() -> None:
    """Measure and print the table."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    if not installed():
        print(MISSING)
        return
    extent = Plan(kind="", url="", clients=8, each=8, steps=options.steps)
    if options.short:
        options.rounds, extent = 1, replace(extent, clients=4, each=2)
    with ExitStack() as exits, TemporaryDirectory(prefix="dh-peers-") as logs:
        sides = {"ours": ours(exits, extent, MAX_BATCH="1"), "ours batched": ours(exits, extent, MAX_BATCH=str(BATCH))}
        sides |= {name: peer(name, Path(logs), extent) for name in PEERS}
        running = {name: exits.enter_context(side.start()) for name, side in sides.items()}
        seen = race(sides, running, options.rounds)
    print(f"demo, {extent.steps} steps, {extent.clients} clients with {extent.each} pictures each, batches of {BATCH}")
    print(f"{machine()}\n\n{table(lines(seen))}")


if __name__ == "__main__":
    main()
