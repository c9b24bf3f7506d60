"""A web server and a worker as real processes, on the test run's own PostgreSQL, Redis and directories."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from django.conf import settings
from django.db import connection

from project.embedded.watchdog import WatchedProcess
from tests.chaos.processes import Child

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.02
Seen = TypeVar("Seen")


_reserved_ports: list[socket.socket] = []


def free_port() -> int:
    """Return a port reserved for as long as this process runs; a server may bind it despite the probe socket."""
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    _reserved_ports.append(probe)
    return int(probe.getsockname()[1])


def build_environment(**more: str) -> dict[str, str]:
    """Return the environment that connects processes to this run's test database."""
    database = connection.settings_dict
    host = quote(str(database["HOST"]), safe="")
    return {
        **os.environ,
        "DATABASE_URL": f"postgresql://{database['USER']}@{host}/{database['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "SECRET_KEY": "tests",
        "HF_HUB_OFFLINE": "1",
        **more,
    }


def wait_until(look: Callable[[], Seen], good: Callable[[Seen], object], *, patience: float = TIMEOUT_SECONDS) -> Seen:
    """Call `look` repeatedly until its result is `good`, and return the result."""
    give_up = time.monotonic() + patience
    while True:
        seen = look()
        if good(seen):
            return seen
        assert time.monotonic() < give_up, f"still not, after {patience} s: {seen}"
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The running service."""

    api: httpx2.Client
    web: WatchedProcess
    worker: WatchedProcess
    logs: Path

    def submit_task(self, prompt: str, *, path: str = "/task", priority: int = 0, **params: Any) -> dict[str, Any]:
        """Queue a task of the demo model, unless the parameters override it."""
        body = {
            "task_type": "text-to-image",
            "priority": priority,
            "params": {"model_id": "demo", "prompt": prompt, "guidance_scale": 3, **params},
        }
        answer = self.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def get_task(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the task in its current state."""
        found: dict[str, Any] = self.api.get(f"/task/{task['id']}").raise_for_status().json()
        return found

    def wait_for_task(self, task: dict[str, Any]) -> dict[str, Any]:
        """Wait until the task has ended."""
        return wait_until(lambda: self.get_task(task), lambda now: now["finished_at"])

    def get_image(self, task: dict[str, Any], index: int = 0) -> bytes:
        """Return an image's bytes."""
        return self.api.get(f"/task/{task['id']}/images/{index}").raise_for_status().content


@contextmanager
def run_process(log: Path, env: Mapping[str, str], *arguments: str) -> Iterator[Child]:
    """Run a Python program as a part of the service."""
    with log.open("wb") as output:
        child = Child([sys.executable, *arguments], env=env, cwd=ROOT, output=output)
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def run_web(logs: Path, env: Mapping[str, str]) -> Iterator[tuple[httpx2.Client, Child]]:
    """Run only a web server."""
    port = free_port()
    uvicorn = ["-m", "uvicorn", "project.asgi:application", "--host=127.0.0.1", f"--port={port}", "--lifespan=off"]
    with (
        run_process(logs / "web.log", env, *uvicorn, "--timeout-graceful-shutdown=5", "--no-access-log") as web,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api,
    ):
        wait_until(lambda: _get_ready_status(api), lambda status: status == 200)
        yield api, web


@contextmanager
def run_stack(logs: Path, env: Mapping[str, str]) -> Iterator[Stack]:
    """Run a web server and a worker."""
    with run_process(logs / "worker.log", env, "manage.py", "rundramatiq") as worker, run_web(logs, env) as (api, web):
        yield Stack(api=api, web=web, worker=worker, logs=logs)


@contextmanager
def run_worker(logs: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker that logs to a file; kill its process group if it is still running."""
    with (logs / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "rundramatiq"],
            cwd=ROOT,
            env=build_environment(**variables),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _get_ready_status(api: httpx2.Client) -> int:
    try:
        return api.get("/readyz").status_code
    except httpx2.TransportError:
        return 0
