"""Requests lost when the process that holds the model is killed: the service compared with its peers.

    uv sync --group bench && uv run python -m tools.benchmarks.kills [--short]

8 clients request 8 images each. When a quarter of the images has arrived, the process gets a SIGKILL. The server is
restarted once all of it has exited, as a supervisor would do. Requests without an image are counted. Clients don't
retry, and they send no requests while the server is down.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.processes import send_signal
from tests.support import stack
from tools.benchmarks.harness.load import Found, Plan, load
from tools.benchmarks.harness.report import Target, arguments, grid, machine
from tools.benchmarks.harness.sides import BATCH, MISSING, TITLES, Side, holder, installed, ours, peer


def kill(side: Side) -> Found:
    """Run the clients, and kill the process that holds the model meanwhile."""
    at = max(1, side.plan.clients * side.plan.each // 4)
    with ExitStack() as exits:
        running = exits.enter_context(side.start())

        def strike(count: int) -> None:
            if count == at:
                send_signal(holder(running), signal.SIGKILL)
                stack.wait_until(running.poll, lambda status: status is not None)
                exits.enter_context(side.start())

        return load(side.plan, on_picture=strike)


def rows(found: Mapping[str, Found]) -> list[list[str]]:
    """Return the table's rows."""
    none = Target(bound=0)
    heading = [
        "SIGKILL of what holds the model",
        "requests",
        "without a picture",
        "until all were answered, s",
        "target",
    ]
    return [
        heading,
        *(
            [
                TITLES[name],
                str(len(one.latencies) + one.lost),
                str(one.lost),
                f"{one.seconds:.0f}",
                none.judge(one.lost) if name.startswith("ours") else "",
            ]
            for name, one in found.items()
        ),
    ]


def main() -> None:
    """Kill each server, count the lost requests, and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    if not installed():
        print(MISSING)
        return
    extent = Plan(kind="", url="", clients=8, each=8, steps=options.steps)
    lease = {}
    if options.short:
        extent, lease = replace(extent, clients=4, each=2), {"LEASE_SECONDS": "5"}
    with ExitStack() as exits, TemporaryDirectory(prefix="dh-kills-") as logs:
        sides = {"ours batched": ours(exits, extent, MAX_BATCH=str(BATCH), **lease)}
        sides |= {name: peer(name, Path(logs), extent) for name in ("lit batched", "guide")}
        found = {name: kill(side) for name, side in sides.items()}
    print(f"demo, {extent.steps} steps, {extent.clients} clients with {extent.each} pictures each, batches of {BATCH}")
    print(f"{machine()}\n\n{grid(rows(found))}")


if __name__ == "__main__":
    main()
