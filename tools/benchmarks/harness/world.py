"""The benchmark's own service: embedded servers, a web server and workers in a temporary directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
import httpx2

from project.embedded import servers as embedded_servers
from tests.chaos.processes import Child
from tests.support import stack

# Part of the web server's database and Redis URLs, to distinguish its connections from others.
NAME = "benchmark-web"
# The same for every side of a comparison: one thread computes, the other core is left to the server.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# The implementations that uvicorn uses in the service's environment; the `bench` group installs faster ones.
PLAIN_UVICORN = {"UVICORN_LOOP": "asyncio", "UVICORN_HTTP": "h11"}


@dataclass(frozen=True, kw_only=True)
class World:
    """The running service, and the environment for further processes."""

    api: httpx2.Client
    web: Child
    directory: Path
    env: Mapping[str, str]

    @contextmanager
    def worker(self, **variables: str) -> Iterator[Child]:
        """Run a worker as users start it, with no model loaded yet."""
        with stack.run_process(
            self.directory / "worker.log", {**self.env, **variables}, "manage.py", "rundramatiq"
        ) as child:
            yield child


def environment() -> dict[str, str]:
    """Return the environment of every process of a comparison."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **THREADS, "HF_HUB_OFFLINE": "1"}


@contextmanager
def service(**variables: str) -> Iterator[World]:
    """Run PostgreSQL, Redis and a web server that needs no API key."""
    with ExitStack() as exits:
        directory = Path(tempfile.mkdtemp(prefix="dh-benchmark-", dir="/tmp"))
        exits.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        servers = exits.enter_context(embedded_servers.run_services(directory / "var"))
        here = {"DATABASE_URL": str(servers.database_url), "REDIS_URL": str(servers.redis_url)}
        here |= {"VAR_DIR": str(directory / "var"), "SECRET_KEY": "benchmarks", "API_AUTH": "optional"}
        here |= {"DJANGO_SETTINGS_MODULE": "project.settings"}
        env = {**environment(), **PLAIN_UVICORN, **here, **variables}
        subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity=0"], cwd=stack.ROOT, env=env, check=True)
        named = {
            "DATABASE_URL": f"{servers.database_url}?application_name={NAME}",
            "REDIS_URL": f"{servers.redis_url}?client_name={NAME}",
        }
        api, web = exits.enter_context(stack.run_web(directory, {**env, **named}))
        yield World(api=api, web=web, directory=directory, env=env)


@contextmanager
def world(**variables: str) -> Iterator[World]:
    """Run a service and set up Django in this process; only once per process."""
    with service(**variables) as here:
        os.environ.update(here.env)
        django.setup()
        yield here
