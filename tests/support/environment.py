"""A pytest plugin, loaded before Django's settings, that gives the test run its own servers and directories.

PostgreSQL and Redis are the real embedded ones, in a temporary directory, so that no test touches existing data. The
`servers` fixture starts them; unit tests run without.
"""

import atexit
import fcntl
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from project.embedded import servers as embedded_servers

ROOT = Path(tempfile.mkdtemp(prefix="dh-tests-", dir="/tmp"))
VAR = ROOT / "var"
# Django's settings name these paths from the start; once the servers run, they lead to the servers' own.
POSTGRES_SOCKETS, REDIS_SOCKETS = ROOT / "postgres", ROOT / "redis"

os.environ.update(
    DJANGO_SETTINGS_MODULE="tests.support.settings",
    DATABASE_URL="",
    REDIS_URL="",
    VAR_DIR=str(VAR),
    HF_HOME=str(ROOT / "huggingface"),
    HF_HUB_DISABLE_TELEMETRY="1",
    API_AUTH="optional",
    # All processes that a test starts share two cores.
    OMP_NUM_THREADS="1",
)
# Until everything is imported; see `pytest_collection_finish`.
gc.disable()
# Otherwise each worker that a test starts would compile torch and diffusers again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Announce the servers before pytest-django reads the settings."""
    ROOT.chmod(0o755)  # PostgreSQL runs as another user when this is root
    atexit.register(shutil.rmtree, ROOT, ignore_errors=True)
    VAR.mkdir()
    lock = os.open(VAR / "lock", os.O_WRONLY | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    announced = embedded_servers.Services(
        database_url=f"postgresql://postgres@{quote(str(POSTGRES_SOCKETS), safe='')}/{embedded_servers.DATABASE_NAME}",
        redis_url=f"unix://{REDIS_SOCKETS / 'redis.sock'}",
    )
    (VAR / "run.json").write_text(json.dumps(asdict(announced)))
    _announcements.append(lock)


# The lock that stands for running servers until they run.
_announcements: list[int] = []


@contextmanager
def run_servers() -> Iterator[None]:
    """Run PostgreSQL and Redis where the settings look for them."""
    os.close(_announcements.pop())
    (VAR / "run.json").unlink()
    with embedded_servers.run_services(VAR) as services:
        assert services.database_url is not None
        assert services.redis_url is not None
        POSTGRES_SOCKETS.symlink_to(str(psycopg.conninfo.conninfo_to_dict(services.database_url)["host"]))
        REDIS_SOCKETS.symlink_to(Path(services.redis_url.removeprefix("unix://")).parent)
        yield
