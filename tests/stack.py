"""A web server and a worker as real processes, on the test run's own PostgreSQL, Redis and directories."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from django.conf import settings
from django.db import connection

from project.keeper import Kept

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.02
Seen = TypeVar("Seen")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """Return what the parts need to find this run's test database."""
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


def until(look: Callable[[], Seen], good: Callable[[Seen], object], *, patience: float = PATIENCE_SECONDS) -> Seen:
    """Look again and again until what is seen is good."""
    give_up = time.monotonic() + patience
    while True:
        seen = look()
        if good(seen):
            return seen
        assert time.monotonic() < give_up, f"still not, after {patience} s: {seen}"
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The running parts."""

    api: httpx2.Client
    web: Kept
    worker: Kept
    logs: Path

    def post(self, prompt: str, *, path: str = "/task", priority: int = 0, **params: Any) -> dict[str, Any]:
        """Queue a task of the demo model, unless the parameters say otherwise."""
        body = {
            "task_type": "text-to-image",
            "priority": priority,
            "params": {"model_id": "demo", "prompt": prompt, "guidance_scale": 3, **params},
        }
        answer = self.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def get(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the task as it is now."""
        found: dict[str, Any] = self.api.get(f"/task/{task['id']}").raise_for_status().json()
        return found

    def finish(self, task: dict[str, Any]) -> dict[str, Any]:
        """Wait for the task's end."""
        return until(lambda: self.get(task), lambda now: now["finished_at"])

    def picture(self, task: dict[str, Any], index: int = 0) -> bytes:
        """Return a picture's bytes."""
        return self.api.get(f"/task/{task['id']}/images/{index}").raise_for_status().content


@contextmanager
def running(logs: Path, env: Mapping[str, str]) -> Iterator[Stack]:
    """Run a web server and a worker."""
    port = free_port()
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> Kept:
            with (logs / f"{name}.log").open("wb") as output:
                part = Kept([sys.executable, *arguments], env=env, cwd=ROOT, output=output)
            stack.callback(part.stop)
            return part

        uvicorn = ["-m", "uvicorn", "project.asgi:application", "--host=127.0.0.1", f"--port={port}", "--lifespan=off"]
        web = start("web", *uvicorn, "--timeout-graceful-shutdown=5", "--no-access-log")
        worker = start("worker", "manage.py", "rundramatiq")
        api = stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10))
        until(lambda: _status(api), lambda status: status == 200)
        yield Stack(api=api, web=web, worker=worker, logs=logs)


def _status(api: httpx2.Client) -> int:
    try:
        return api.get("/readyz").status_code
    except httpx2.TransportError:
        return 0
