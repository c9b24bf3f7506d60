"""The servers under comparison: how to start each one, send it requests, and find the process with its model."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import psutil

from tests.chaos.processes import Child, send_signal, session_processes
from tests.support import stack
from tools.benchmarks.harness.load import Plan, answers
from tools.benchmarks.harness.pipeline import MODELS
from tools.benchmarks.harness.world import environment, service

MISSING = "The peers are not installed: `uv sync --group bench` brings them."
BATCH = 4
START_SECONDS = 120.0
TITLES = {
    "ours": "service",
    "ours batched": "service, batches",
    "lit": "LitServe",
    "lit batched": "LitServe, batches",
    "guide": "FastAPI, guide",
}
# The kind of requests for a peer, its health check's path, and its arguments after port and folder.
PEERS = {
    "lit": ("lit", "/health", ["1"]),
    "lit batched": ("lit", "/health", [str(BATCH)]),
    "guide": ("guide", "/ready", []),
}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One server: its load plan, and a function that starts the part that holds the model."""

    plan: Plan
    start: Callable[[], AbstractContextManager[Child]]


def installed() -> bool:
    """Return whether the peers are installed."""
    return all(importlib.util.find_spec(name) for name in ("litserve", "fastapi"))


def ours(exits: ExitStack, extent: Plan, **variables: str) -> Side:
    """Return the service, whose web server is already running; `start` runs its worker."""
    world = exits.enter_context(service(**variables))
    return Side(plan=replace(extent, kind="task", url=str(world.api.base_url)), start=world.worker)


def peer(name: str, logs: Path, extent: Plan) -> Side:
    """Return a peer; `start` runs the whole server."""
    kind, ready, more = PEERS[name]
    port = stack.free_port()
    plan = replace(extent, kind=kind, url=f"http://127.0.0.1:{port}", ready=ready)
    command = ["-m", f"tools.benchmarks.harness.servers.{kind}", str(port), str(MODELS / "demo"), *more]

    @contextmanager
    def start() -> Iterator[Child]:
        log = logs / f"{name}.log"
        with stack.run_process(log, environment(), *command) as child, httpx2.Client(base_url=plan.url) as client:
            try:
                stack.wait_until(lambda: answers(client, plan.ready), bool, patience=START_SECONDS)
                yield child
            finally:
                # Its helper processes don't end with it.
                for one in session_processes(child.session):
                    if one.pid != child.session:
                        send_signal(one.pid, signal.SIGKILL)

    return Side(plan=plan, start=start)


@contextmanager
def halted(others: Iterable[Child]) -> Iterator[None]:
    """Suspend servers for the duration of the block: an idle one may poll for work constantly."""
    idle = [one.pid for child in others for one in session_processes(child.session)]
    for pid in idle:
        send_signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in idle:
            send_signal(pid, signal.SIGCONT)


def holder(child: Child) -> int:
    """Return the process that holds the model: the one of the server's processes that uses most memory."""
    assert child.command is not None
    top = psutil.Process(child.command)
    return int(max([top, *top.children(recursive=True)], key=lambda one: one.memory_info().rss).pid)
