"""The clients of a comparison in a separate process, the same for every server.

`python -m tools.benchmarks.harness.load PLAN`

Each client requests an image, fetches it, and requests the next. The process prints the line `picture` for each image
received, and one line of JSON at the end.
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

from tests.support.stack import ROOT, wait_until
from tools.benchmarks.harness.pipeline import GUIDANCE
from tools.benchmarks.harness.world import environment

PNG = b"\x89PNG\r\n\x1a\n"
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Number of clients and of images per client; `kind` selects the server's protocol."""

    kind: str
    url: str
    clients: int
    each: int
    steps: int
    model: str = "demo"
    ready: str = "/readyz"


@dataclass(kw_only=True)
class Found:
    """Result: seconds from the first request to the last response, latency of each successful request, and failures."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    lost: int = 0


def task(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Generate an image with this service, following its task until it ends."""
    answer = _post_task(client, plan, prompt, {"Prefer": "wait=60"})
    while not answer["finished_at"]:
        time.sleep(POLL_SECONDS)
        answer = client.get(answer["urls"]["self"]).raise_for_status().json()
    return client.get(answer["images"][0]["url"]).raise_for_status().content


def queue(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Queue a task without waiting for it."""
    _post_task(client, plan, prompt, {})
    return PNG


def _post_task(client: httpx2.Client, plan: Plan, prompt: str, headers: Mapping[str, str]) -> dict[str, Any]:
    params = {"model_id": plan.model, "prompt": prompt, "steps": plan.steps, "guidance_scale": GUIDANCE}
    body = {"task_type": "text-to-image", "params": params}
    answer = client.post("/task", json=body, headers=headers).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def lit(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Generate an image with LitServe, whose response is the image."""
    return client.post("/predict", json={"prompt": prompt, "steps": plan.steps}).raise_for_status().content


def guide(client: httpx2.Client, plan: Plan, prompt: str) -> bytes:
    """Generate an image with the server of diffusers' guide, and fetch it."""
    answer = client.post("/v1/images/generations", json={"model": plan.model, "prompt": prompt, "steps": plan.steps})
    return client.get(answer.raise_for_status().json()["data"][0]["url"]).raise_for_status().content


KINDS: Mapping[str, Callable[[httpx2.Client, Plan, str], bytes]] = {
    "task": task,
    "queue": queue,
    "lit": lit,
    "guide": guide,
}


def ask(plan: Plan, name: str, found: Found, ready: Barrier) -> None:
    """Run one client, once all clients are ready: creating one takes longer than generating an image.

    A failed request counts as lost: it is not retried, and the next one waits until the server is back.
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
                # Write the line and its newline at once, so that lines of two clients don't interleave.
                print("picture\n", end="", flush=True)


def answers(client: httpx2.Client, path: str) -> bool:
    """Return whether the server is ready."""
    try:
        return client.get(path).status_code == 200
    except httpx2.TransportError:
        return False


def main(plan: Plan) -> None:
    """Run all clients at the same time."""
    found = Found()
    names = [chr(ord("a") + number) for number in range(plan.clients)]
    began: list[float] = []
    ready = Barrier(plan.clients, action=lambda: began.append(time.perf_counter()))
    with ThreadPoolExecutor(plan.clients) as pool:
        list(pool.map(lambda name: ask(plan, name, found, ready), names))
    found.seconds = time.perf_counter() - began[0]
    print(json.dumps(asdict(found)))


def load(plan: Plan, *, on_picture: Callable[[int], None] = lambda count: None) -> Found:
    """Run the clients; call `on_picture` with the number of images received so far."""
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
