"""A complete service for one run: servers behind proxies, a web server, two supervised workers, and a journal."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from project.embedded.servers import DATABASE_NAME
from tests.chaos import journal
from tests.chaos.processes import Child, send_signal
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Postgres, Redis
from tests.chaos.workers import Workers
from tests.support.stack import ROOT, free_port, wait_until

# The sweeper's first query: a process that sends it is up.
SWEEP = b"pg_try_advisory_xact_lock"
LEASE_SECONDS = 2.0
FAST = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "HEARTBEAT_SECONDS": "0.3",
    "SWEEP_INTERVAL_SECONDS": "0.3",
    "WAKE_UP_INTERVAL_SECONDS": "1",
    "SHUTDOWN_GRACE_SECONDS": "1",
}


@dataclass(kw_only=True)
class ChaosServers:
    """The servers, which outlive a world and may serve several, one after the other."""

    directory: Path
    logs: Path
    postgres: Postgres
    redis: Redis
    to_postgres: Proxy
    to_redis: Proxy

    def build_environment(self, **more: str) -> dict[str, str]:
        """Return the environment of this suite's processes."""
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.support.settings",
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{self.to_postgres.port}/{DATABASE_NAME}",
            "REDIS_URL": f"redis://127.0.0.1:{self.to_redis.port}/0",
            "SECRET_KEY": "tests",
            "VAR_DIR": str(self.directory / "var"),
            "MEDIA_ROOT": str(self.directory / "media"),
            "HF_HUB_OFFLINE": "1",
            # No encryption, so that the proxy can read the traffic.
            "PGSSLMODE": "disable",
            "PGGSSENCMODE": "disable",
            **FAST,
            **more,
        }

    def clear_data(self) -> None:
        """Delete all tasks, messages and images."""
        self.postgres.fetch_rows("TRUNCATE tasks_app_task, chaos_log RESTART IDENTITY CASCADE")
        self.redis.client.flushall()
        shutil.rmtree(self.directory / "media", ignore_errors=True)


@dataclass(kw_only=True)
class World:
    """The running service, and the suite's record of its requests."""

    base: ChaosServers
    env: dict[str, str]
    web: Child
    api: httpx2.Client
    workers: Workers
    answered: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    canceled: set[str] = field(default_factory=set)
    # Tasks that the load cancels sooner or later. None is ever removed: another thread that has read the row may still
    # be about to cancel it.
    doomed: set[str] = field(default_factory=set)
    poisoned: set[str] = field(default_factory=set)
    statuses: list[tuple[str, int]] = field(default_factory=list)

    @property
    def postgres(self) -> Postgres:
        """Return the database, bypassing the proxy."""
        return self.base.postgres

    @property
    def lease_seconds(self) -> float:
        """Return the lifetime of a claim without a heartbeat, in seconds."""
        return float(self.env["LEASE_SECONDS"])

    def submit_task(self, prompt: str, *, provider: str = "fake", **params: Any) -> str | None:
        """Queue a task; return its id, or None unless the response was a 201."""
        body = {"provider": provider, "model_id": "demo", "prompt": prompt, "guidance_scale": 4, **params}
        try:
            answer = self.api.post("/task", json={"task_type": "text-to-image", "params": body})
        except httpx2.TransportError as error:
            self._count_refusal(type(error).__name__)
            return None
        if answer.status_code != 201:
            self._count_refusal(str(answer.status_code))
            return None
        task: str = answer.json()["id"]
        self.answered.add(task)
        if prompt == "poison":
            self.poisoned.add(task)
        return task

    def cancel_task(self, task: str) -> bool:
        """Cancel a task; return whether the service accepted the request."""
        try:
            answer = self.api.post(f"/task/{task}/cancel")
        except httpx2.TransportError:
            return False
        if answer.status_code == 200 and answer.json()["status"] == "canceled":
            self.canceled.add(task)
        return answer.status_code == 200

    def get_row(self, task: str) -> dict[str, Any]:
        """Return a row's current values."""
        return self.postgres.fetch_rows("SELECT * FROM tasks_app_task WHERE id = %s", [task])[0]

    def count_by_status(self) -> dict[str, int]:
        """Return the number of rows of each status."""
        found = self.postgres.fetch_rows("SELECT status, count(*) AS number FROM tasks_app_task GROUP BY status")
        return {row["status"]: row["number"] for row in found}

    def wait_until_ended(self, patience: float) -> bool:
        """Wait until no task is queued or running; return False on a timeout."""
        try:
            wait_until(
                self.count_by_status, lambda counts: not counts.keys() & {"queued", "running"}, patience=patience
            )
        except AssertionError:
            return False
        return True

    def _count_refusal(self, how: str) -> None:
        self.refused[how] = self.refused.get(how, 0) + 1


@contextmanager
def run_servers(logs: Path) -> Iterator[ChaosServers]:
    """Run PostgreSQL with the service's tables and the journal, and Redis."""
    directory = Path(tempfile.mkdtemp(prefix="dh-chaos-", dir="/tmp"))
    directory.chmod(0o755)  # PostgreSQL runs as another user when this is root
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgres = Postgres(directory, logs / "postgres.log")
        stack.callback(postgres.close)
        redis = Redis(directory, logs / "redis.log")
        stack.callback(redis.close)
        postgres.start()
        redis.start()
        to_postgres = Proxy(postgres.socket, watched=SWEEP)
        stack.callback(to_postgres.close)
        to_redis = Proxy(redis.socket)
        stack.callback(to_redis.close)
        base = ChaosServers(
            directory=directory,
            logs=logs,
            postgres=postgres,
            redis=redis,
            to_postgres=to_postgres,
            to_redis=to_redis,
        )
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
        subprocess.run(migrate, cwd=ROOT, env=base.build_environment(), check=True, timeout=120)
        journal.install_trigger(postgres)
        yield base


@contextmanager
def run_service(base: ChaosServers, **variables: str) -> Iterator[World]:
    """Run a web server and two workers on emptied servers; all of them are stopped afterwards."""
    base.clear_data()
    base.to_postgres.first_seen.clear()
    env = base.build_environment(**variables)
    port = free_port()
    with ExitStack() as stack:
        workers = Workers(env, base.logs, base.to_postgres.first_seen)
        stack.callback(workers.kill_all)
        workers.start_all()
        arguments = ["-m", "uvicorn", "project.asgi:application", "--host=127.0.0.1", f"--port={port}"]
        arguments += ["--lifespan=off", "--timeout-graceful-shutdown=5", "--no-access-log"]
        with (base.logs / "web.log").open("ab") as log:
            web = Child([sys.executable, *arguments], env={**env, "PGAPPNAME": "web"}, cwd=ROOT, output=log)
        stack.callback(web.stop)
        api = stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10))
        wait_until(lambda: _is_ready(api), bool)
        workers.wait_until_up()
        yield World(base=base, env=env, web=web, api=api, workers=workers)


def stop_service(world: World) -> list[int]:
    """Stop the workers and the web server as their supervisor would; return the workers' exit statuses."""
    statuses = world.workers.stop_all()
    if (pid := world.web.command) is not None:
        send_signal(pid, signal.SIGTERM)
    world.web.stop()
    return statuses


def _is_ready(api: httpx2.Client) -> bool:
    try:
        return api.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False
