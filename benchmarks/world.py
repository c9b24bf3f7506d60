"""A service of the benchmark's own: embedded servers and a web server in a temporary directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
import httpx2

from project import embedded
from tests import stack
from tests.chaos.processes import Child

# Said in the web server's URLs, so that both servers can tell its connections from everybody else's.
NAME = "benchmark-web"


@dataclass(frozen=True, kw_only=True)
class World:
    """The parts, and the environment that further ones are started with."""

    api: httpx2.Client
    web: Child
    directory: Path
    env: Mapping[str, str]


@contextmanager
def world() -> Iterator[World]:
    """Run PostgreSQL, Redis and a web server, with Django set up in this process, too."""
    with ExitStack() as exits:
        directory = Path(tempfile.mkdtemp(prefix="dh-benchmark-", dir="/tmp"))
        exits.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        servers = exits.enter_context(embedded.started(directory / "var"))
        assert servers.database_url is not None
        assert servers.redis_url is not None
        here = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url, "VAR_DIR": str(directory / "var")}
        os.environ.update(here, SECRET_KEY="benchmarks", DJANGO_SETTINGS_MODULE="project.settings")
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        named = {
            "DATABASE_URL": f"{servers.database_url}?application_name={NAME}",
            "REDIS_URL": f"{servers.redis_url}?client_name={NAME}",
        }
        api, web = exits.enter_context(stack.serving(directory, {**os.environ, **named}))
        yield World(api=api, web=web, directory=directory, env=dict(os.environ))
