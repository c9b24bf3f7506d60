"""A pytest plugin, loaded before Django's settings are: servers and directories of the test run's own.

PostgreSQL and Redis are the real embedded ones, in a temporary directory, so that no test ever touches anybody's data.
"""

import atexit
import gc
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from project import embedded

ROOT = Path(tempfile.mkdtemp(prefix="dh-tests-", dir="/tmp"))
_servers = ExitStack()

os.environ.update(
    DJANGO_SETTINGS_MODULE="tests.settings",
    DATABASE_URL="",
    REDIS_URL="",
    VAR_DIR=str(ROOT / "var"),
    HF_HOME=str(ROOT / "huggingface"),
    HF_HUB_DISABLE_TELEMETRY="1",
    API_AUTH="optional",
    # Two cores are shared by everything that a test starts.
    OMP_NUM_THREADS="1",
)
# Until all is imported; see `pytest_collection_finish`.
gc.disable()
# Each worker that a test starts would compile torch and diffusers anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Start the servers before pytest-django reads the settings."""
    ROOT.chmod(0o755)  # PostgreSQL runs as another user when this is root
    atexit.register(_clean_up)
    _servers.enter_context(embedded.run_services(ROOT / "var"))


def _clean_up() -> None:
    _servers.close()
    shutil.rmtree(ROOT, ignore_errors=True)
