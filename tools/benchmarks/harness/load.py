"""The clients of a comparison in a process of their own, the same for every server.

`python -m tools.benchmarks.harness.load PLAN`

Each client asks for a picture, fetches it, and asks for the next. A line `picture` is printed for each that came, and
at the end one of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from threading import Barrier
from typing import Any

import httpx2

from tests.stack import ROOT, wait_until
from tools.benchmarks.harness.pipeline import GUIDANCE
from tools.benchmarks.harness.world import environment

PNG = b"\x89PNG\r\n\x1a\n"
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many clients ask for how many pictures each; `kind` is how the server is spoken to."""

    kind: str
    url: str
    clients: int
    each: int
    steps: int
    model: str = "demo"
    ready: str = "/readyz"


@dataclass(kw_only=True)
class Found:
    """What came of it: seconds from the first request to the last answer, and of each request that was answered."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    lost: int = 0


def task(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Have this service draw a picture, and follow its task for as long as it takes."""
    answer = _post_task(client, plan, prompt, {"Prefer": "wait=60"})
    while not answer["finished_at"]:
        time.sleep(POLL_SECONDS)
        answer = client.get(answer["urls"]["self"]).raise_for_status().json()
    return client.get(answer["images"][0]["url"]).raise_for_status().content


def queue(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Only queue a task."""
    _post_task(client, plan, prompt, {})
    return PNG


def _post_task(client: httpx2.Client, plan: Plan, prompt: str, headers: Mapping[str, str]) -> dict[str, Any]:
    params = {"model_id": plan.model, "prompt": prompt, "steps": plan.steps, "guidance_scale": GUIDANCE}
    body = {"task_type": "text-to-image", "params": params}
    answer = client.post("/task", json=body, headers=headers).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def lit(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Have LitServe draw a picture, which is the answer."""
    return client.post("/predict", json={"prompt": prompt, "steps": plan.steps}).raise_for_status().content


def guide(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Have the server of diffusers' guide draw a picture, and fetch it."""
    answer = client.post("/v1/images/generations", json={"model": plan.model, "prompt": prompt, "steps": plan.steps})
    return client.get(answer.raise_for_status().json()["data"][0]["url"]).raise_for_status().content


KINDS: Mapping[str, Callable[[httpx2.Client, Plan, str], bytes]] = {
    "task": task,
    "queue": queue,
    "lit": lit,
    "guide": guide,
}


def ask(plan: Plan, name: str, found: Found, ready: Barrier) -> None:
    """Be one client, once all are ready: to be made takes longer than a picture.

    A request that fails is lost: it isn't sent again, and the next waits until the server is back.
    """
    with httpx2.Client(base_url=plan.url, timeout=PATIENCE_SECONDS) as client:
        ready.wait()
        for number in range(plan.each):
            began = time.perf_counter()
            try:
                picture = KINDS[plan.kind](client, plan, f"a red house {name}{number}")
                assert picture.startswith(PNG), picture[:80]
            except httpx2.HTTPError:
                found.lost += 1
                wait_until(lambda: answers(client, plan.ready), bool, patience=PATIENCE_SECONDS)
            else:
                found.latencies.append(time.perf_counter() - began)
                # With its end in one write: those of two clients must not come between each other.
                print("picture\n", end="", flush=True)


def answers(client: httpx2.Client, path: str) -> bool:
    """Return whether the server is there."""
    try:
        return client.get(path).status_code == 200
    except httpx2.TransportError:
        return False


def main(plan: Plan) -> None:
    """Be all clients at once."""
    found = Found()
    names = [chr(ord("a") + number) for number in range(plan.clients)]
    began: list[float] = []
    ready = Barrier(plan.clients, action=lambda: began.append(time.perf_counter()))
    with ThreadPoolExecutor(plan.clients) as pool:
        list(pool.map(lambda name: ask(plan, name, found, ready), names))
    found.seconds = time.perf_counter() - began[0]
    print(json.dumps(asdict(found)))


def load(plan: Plan, *, on_picture: Callable[[int], None] = lambda count: None) -> Found:
    """Run the clients; `on_picture` is told how many pictures have come."""
    command = [sys.executable, "-m", "tools.benchmarks.harness.load", json.dumps(asdict(plan))]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        count, line = 0, ""
        for line in process.stdout:
            if line == "picture\n":
                count += 1
                on_picture(count)
    assert process.returncode == 0
    return Found(**json.loads(line))


if __name__ == "__main__":
    main(Plan(**json.loads(sys.argv[1])))
