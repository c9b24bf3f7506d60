"""PostgreSQL and Redis that are down or frozen while web server and worker run."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from project.embedded.servers import DATABASE_NAME
from tasks_app.api.http.exceptions import DATABASE_UNAVAILABLE
from tests.chaos.servers import Postgres, Redis
from tests.support import stack
from tests.support.listeners import Listener
from tests.support.stack import Stack, wait_until

pytestmark = pytest.mark.chaos


@dataclass(frozen=True, kw_only=True)
class World:
    """Web server and worker on servers that may go away."""

    postgres: Postgres
    redis: Redis
    stack: Stack

    def post(self, prompt: str, steps: int = 4) -> dict[str, Any]:
        """Queue a task of the fake provider."""
        return self.stack.submit_task(prompt, provider="fake", steps=steps)

    def running(self, task: dict[str, Any]) -> dict[str, Any]:
        """Wait until the task has made a step."""
        return wait_until(lambda: self.stack.get_task(task), lambda now: now["progress"]["step"] > 0)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="dh-outages-", dir="/tmp"))
    directory.chmod(0o755)
    with ExitStack() as exits:
        exits.callback(shutil.rmtree, directory)
        postgres = Postgres(directory, directory / "postgres.log")
        redis = Redis(directory, directory / "redis.log")
        for server in (postgres, redis):
            exits.callback(server.close)
            server.start()
        env = {
            **os.environ,
            "DATABASE_URL": f"postgresql://postgres@{quote(str(postgres.sockets), safe='')}/{DATABASE_NAME}",
            "REDIS_URL": f"unix://{redis.socket}",
            "SECRET_KEY": "tests",
            "WAKE_UP_INTERVAL_SECONDS": "1",
            "SWEEP_INTERVAL_SECONDS": "0.5",
            "HEARTBEAT_SECONDS": "0.3",
        }
        subprocess.run([sys.executable, "manage.py", "migrate"], cwd=stack.ROOT, env=env, check=True, stdout=-3)
        running = exits.enter_context(stack.run_stack(directory, env))
        world = World(postgres=postgres, redis=redis, stack=running)
        running.wait_for_task(world.post("pace 0"))
        yield world


def timed_post(world: World) -> tuple[float, dict[str, Any]]:
    started = time.monotonic()
    task = world.post("pace 0")
    return time.monotonic() - started, task


def test_while_redis_is_frozen_posts_are_answered_within_two_seconds_and_run_afterwards(world: World) -> None:
    running = world.post("pace 0.1", steps=20)
    world.running(running)
    world.redis.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: timed_post(world), range(40)))
        assert max(seconds for seconds, _ in answers) < 2
        assert world.stack.get_task(answers[0][1])["status"] == "queued"
        ended = world.stack.wait_for_task(running)
    finally:
        world.redis.send_signal(signal.SIGCONT)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert {world.stack.wait_for_task(task)["status"] for _, task in answers} == {"succeeded"}


def test_while_redis_is_down_a_running_task_finishes_and_shows_the_rows_progress(world: World) -> None:
    running = world.post("pace 0.1", steps=30)
    before = world.running(running)["progress"]["step"]
    world.redis.stop_by_signal(signal.SIGKILL)
    seconds, queued = timed_post(world)
    assert seconds < 2
    wait_until(lambda: world.stack.get_task(running), lambda now: now["progress"]["step"] > before + 2)
    assert world.stack.wait_for_task(running)["status"] == "succeeded"
    assert world.stack.api.get("/readyz").json()["redis"] == "does not answer"
    world.redis.start()
    assert world.stack.wait_for_task(queued)["status"] == "succeeded"


def steps(stream: Listener) -> list[int]:
    return [one.data["step"] for one in stream.events_named("progress")]


def test_while_redis_is_down_an_open_stream_shows_the_rows_progress_and_the_end(world: World) -> None:
    running = world.post("pace 0.2", steps=60)
    with Listener(world.stack.api, f"/task/{running['id']}/events") as stream:
        before = wait_until(lambda: steps(stream), len)[-1]
        world.redis.stop_by_signal(signal.SIGKILL)
        wait_until(lambda: steps(stream), lambda seen: seen[-1] > before + 5)
        with Listener(world.stack.api, f"/task/{running['id']}/events") as late:
            wait_until(lambda: steps(late), len)
        world.redis.start()
        # Once Redis is back, each step is told again, under its entry's id.
        wait_until(
            lambda: stream.events_named("progress"), lambda seen: seen[-1].id and seen[-1].data["step"] > before + 8
        )
        world.redis.stop_by_signal(signal.SIGKILL)
        try:
            stream.join(60)
        finally:
            world.redis.start()
    assert steps(stream) == sorted(set(steps(stream)))
    assert stream.event_names[-3:] == ["status", "image", "done"]


def test_while_postgresql_is_down_an_open_stream_stays_and_tells_the_end_afterwards(world: World) -> None:
    running = world.post("pace 0.1", steps=30)
    with Listener(world.stack.api, f"/task/{running['id']}/events") as stream:
        wait_until(lambda: steps(stream), len)
        world.postgres.stop_by_signal(signal.SIGINT)
        try:
            wait_until(lambda: steps(stream), lambda seen: seen[-1] == 30)
            assert stream.is_alive()
            assert Listener(world.stack.api, f"/task/{running['id']}/events").status == 503
        finally:
            world.postgres.start()
        stream.join(60)
    assert stream.event_names[-3:] == ["status", "image", "done"]


def test_when_redis_forgets_everything_nothing_is_lost(world: World) -> None:
    tasks = [world.post("pace 0.1") for _ in range(5)]
    world.redis.client.flushall()
    assert {world.stack.wait_for_task(task)["status"] for task in tasks} == {"succeeded"}


def status_of(world: World, method: str, path: str, **options: Any) -> httpx2.Response:
    return world.stack.api.request(method, path, **options)


def test_while_postgresql_is_down_the_web_says_so_and_a_worker_holds_its_result(world: World) -> None:
    running = world.post("pace 0.1", steps=15)
    world.running(running)
    body = {"task_type": "text-to-image", "params": {"provider": "fake", "model_id": "demo", "prompt": "pace 0"}}
    world.postgres.stop_by_signal(signal.SIGINT)
    try:
        path = f"/task/{running['id']}"
        for answer in (
            status_of(world, "POST", "/task", json=body),
            status_of(world, "GET", "/task"),
            status_of(world, "GET", path),
            status_of(world, "POST", f"{path}/cancel"),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        page = status_of(world, "GET", "/")
        assert (page.status_code, page.text, page.headers["Retry-After"]) == (503, DATABASE_UNAVAILABLE, "5")
        assert status_of(world, "GET", "/healthz").status_code == 200
        assert status_of(world, "GET", "/readyz").status_code == 503
        held = "retrying to save the outcome"
        wait_until(lambda: (world.stack.logs / "worker.log").read_text(), lambda log: held in log)
    finally:
        world.postgres.start()
    wait_until(lambda: status_of(world, "GET", path).status_code, lambda status: status == 200, patience=10)
    ended = world.stack.wait_for_task(running)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert world.stack.wait_for_task(world.post("pace 0"))["status"] == "succeeded"


def test_a_restart_of_postgresql_costs_nobody_a_task(world: World) -> None:
    tasks = [world.post("pace 0.05", steps=10) for _ in range(4)]
    world.running(tasks[0])
    world.postgres.restart(signal.SIGQUIT)
    wait_until(lambda: status_of(world, "GET", "/task").status_code, lambda status: status == 200)
    assert {world.stack.wait_for_task(task)["status"] for task in tasks} == {"succeeded"}
