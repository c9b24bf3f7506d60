"""The commands as people run them: in processes of their own, with directories of their own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from project.embedded import servers as embedded_servers
from tasks_app.catalog import inventory
from tests.integration.engine import hub
from tests.support import tiny
from tests.support.stack import free_port, wait_until

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def directory() -> Iterator[Path]:
    """Make a directory for the command's data, which every user can reach."""
    path = Path(tempfile.mkdtemp(prefix="dh-commands-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def var() -> Iterator[Path]:
    with directory() as path:
        yield path


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Return a directory that quickstarts share: the first one finds nothing in it, the next ones what it left."""
    with directory() as path:
        yield path


def environment(var: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings", "VAR_DIR": str(var), **more}


def manage(var: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(var, **more), capture_output=True, text=True, timeout=120)


def processes_of(var: Path) -> list[str]:
    """Return the commands of all processes that live in this directory's environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"VAR_DIR={var}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if mine and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is not ours to look into
            continue
    return found


def assert_nothing_runs(var: Path, port: int) -> None:
    wait_until(lambda: processes_of(var), lambda found: not found)
    assert embedded_servers.find_running_services(var) is None
    assert not (var / "run.json").exists()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def worker_of(var: Path) -> int:
    """Return the process of the worker that Dramatiq forked last."""
    found = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if b"dramatiq --path" in _read(folder / "cmdline").replace(b"\0", b" ")
        and f"VAR_DIR={var}".encode() in _read(folder / "environ").split(b"\0")
        and b"keeper.py" not in _read(folder / "cmdline")
    ]
    return max(found)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_quickstart_once_makes_a_picture_and_leaves_nothing_running(home: Path) -> None:
    port = free_port()
    done = manage(home, "quickstart", "--once", "--port", str(port))
    assert done.returncode == 0, done.stderr
    assert "Admin user: admin, password: " in done.stdout
    assert "Using the built-in demo model" in done.stdout
    path = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Image"))
    with Image.open(path) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (64, 64))
    assert_nothing_runs(home, port)


def quickstart(var: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", "quickstart", "--port", str(port)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(var), stdout=subprocess.PIPE, text=True)


def test_quickstart_serves_until_ctrl_c_and_leaves_nothing_running(home: Path) -> None:
    port = free_port()
    process = quickstart(home, port)
    assert process.stdout is not None
    with process.stdout, httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
        assert any(line.startswith("Serving until Ctrl-C") for line in process.stdout)
        # Without a model the quickstart's server draws with the demo model.
        body = {"task_type": "text-to-image", "params": {"prompt": "a beach", "steps": 2}}
        task = api.post("/task/", json=body).json()
        assert task["params"]["model_id"] == "demo"
        wait_until(lambda: api.get(f"/task/{task['id']}").json(), lambda now: now["status"] == "succeeded")
        os.kill(worker_of(home), signal.SIGKILL)  # it is restarted, and the next task runs
        task = api.post("/task", json=body).json()
        wait_until(lambda: api.get(f"/task/{task['id']}").json(), lambda now: now["status"] == "succeeded")
        assert "another" in manage(home, "quickstart", "--port", str(free_port())).stderr.lower()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert_nothing_runs(home, port)


def test_a_quickstart_that_is_killed_takes_all_its_parts_along(home: Path) -> None:
    port = free_port()
    process = quickstart(home, port)
    assert process.stdout is not None
    with process.stdout:
        assert any(line.startswith("POST /task") for line in process.stdout)
        process.kill()
        process.wait()
    assert_nothing_runs(home, port)


def test_quickstart_on_a_taken_port_says_so_and_fails(var: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = manage(var, "quickstart", "--once", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "is taken" in done.stderr
    assert not processes_of(var)


@pytest.mark.parametrize("command", ["migrate", "rundramatiq"])
def test_without_servers_a_command_says_what_to_start(var: Path, command: str) -> None:
    done = manage(var, command)
    assert done.returncode == 1
    assert "manage.py services" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_both_urls_nothing_embedded_is_started(var: Path) -> None:
    done = manage(var, "services", DATABASE_URL="postgresql://x/y", REDIS_URL="redis://x", SECRET_KEY="x")
    assert done.returncode == 1
    assert "nothing to start" in done.stderr


def test_services_run_in_the_foreground_and_others_attach(var: Path) -> None:
    services = subprocess.Popen(
        [sys.executable, "manage.py", "services"], cwd=ROOT, env=environment(var), stdout=subprocess.PIPE, text=True
    )
    assert services.stdout is not None
    with services.stdout:
        assert any("Ctrl-C" in line for line in services.stdout)
        assert manage(var, "migrate").returncode == 0
        services.send_signal(signal.SIGTERM)
        assert services.wait(timeout=30) == 0
    wait_until(lambda: processes_of(var), lambda found: not found)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"DEBUG": "flase"}, "DEBUG"),
        ({"MAX_IMAGES": "0"}, "MAX_IMAGES"),
        ({"INFERENCE_DTYPE": "float8"}, "INFERENCE_DTYPE"),
        ({"DATABASE_URL": "postgresql://x/y"}, "SECRET_KEY"),
    ],
    ids=str,
)
def test_a_wrong_variable_is_named(var: Path, variables: dict[str, str], message: str) -> None:
    done = manage(var, "check", **variables)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


PRODUCTION = {
    "DATABASE_URL": "postgresql://x/y",
    "REDIS_URL": "redis://x",
    "SECRET_KEY": "a-secret-of-fifty-characters-at-least-0123456789-abcdefgh",
    "ALLOWED_HOSTS": "pictures.example.org",
    "BEHIND_HTTPS": "true",
    "METRICS_TOKEN": "a-token",
    "API_AUTH": "required",
}


@pytest.mark.parametrize(
    ("change", "status"),
    [({}, 0), ({"BEHIND_HTTPS": "false"}, 1), ({"ALLOWED_MODELS": "*"}, 1), ({"METRICS_TOKEN": ""}, 1)],
    ids=str,
)
def test_the_deploy_check_is_clean_under_production_settings_and_only_there(
    var: Path, change: dict[str, str], status: int
) -> None:
    done = manage(var, "check", "--deploy", "--fail-level", "WARNING", **{**PRODUCTION, **change})
    assert done.returncode == status, done.stderr


def test_a_model_is_pulled_within_the_quota_and_is_what_the_hub_said(var: Path, tmp_path: Path) -> None:
    model = tiny.save_sd(tmp_path / "sd")
    with hub.serving({"somebody/tiny": model}) as server:
        more = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "ALLOWED_MODELS": "somebody/*"}
        full = manage(var, "models", "pull", "somebody/tiny", **more, MODELS_MAX_BYTES="1000")
        assert "of MODELS_MAX_BYTES=1,000" in full.stderr
        done = manage(var, "models", "pull", "somebody/tiny", **more)
        assert done.returncode == 0, done.stderr
        assert f"revision {hub.COMMIT}" in done.stdout
    (pulled,) = inventory.list_local_models(tmp_path / "models", tmp_path / "home" / "hub")
    assert (pulled.model_id, pulled.revision, inventory.find_file_errors(pulled)) == ("somebody/tiny", hub.COMMIT, {})
    assert "not allow" in manage(var, "models", "pull", "another/model").stderr
