"""What the schema says is what the server does: schemathesis, with all its checks, on a server that wants a key."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from PIL import Image

from tasks_app.access import api_keys
from tasks_app.models import Scope, Task
from tests.fuzz.conftest import run_web

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
VARIABLES = {"API_AUTH": "required", "MAX_WAIT_SECONDS": "0", "COMPAT_TIMEOUT_SECONDS": "0"}
# The facades have many fields, and going through all that can be wrong with each takes its time.
QUICK = """
[[operations]]
include-tag = ["OpenAI", "A1111"]
phases.coverage.enabled = false
"""
UNLIMITED = 10**9
# Examples for each operation and phase, and how many cases that must at least come to.
SHORT, LEAST_SHORT = 2, 400
FULL, LEAST_FULL = 100, 2000


@pytest.fixture(scope="module")
def server(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """Return a client of a server that wants a key, and holds no answer."""
    logs = tmp_path_factory.mktemp("schema")
    with django_db_blocker.unblock(), run_web(logs, **VARIABLES) as api:
        yield api
    assert "Traceback" not in (logs / "web.log").read_text()


@pytest.fixture
def key(transactional_db: None) -> str:
    """Make a key that may do all and as often as it likes."""
    user = User.objects.create_user("fuzz")
    limits: dict[str, Any] = {"rate_per_minute": UNLIMITED, "max_queued": UNLIMITED}
    return api_keys.create_api_key(user=user, name="fuzz", scopes=list(Scope), **limits)[1]


def narrowed(server: httpx2.Client, key: str, tasks: list[Task]) -> dict[str, Any]:
    """Return the schema with what only this server knows: models that it allows, hosts, and tasks."""
    schema: dict[str, Any] = server.get("/schema").raise_for_status().json()
    listed = server.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).raise_for_status().json()["data"]
    models = ["stabilityai/sdxl-turbo", *(model["id"] for model in listed)]
    components = schema["components"]
    components["schemas"]["TextToImageParams"]["properties"]["model_id"] = {"enum": models}
    components["schemas"]["Generation"]["properties"]["model"] = {"enum": [*models, None]}
    components["schemas"]["Webhook"]["properties"]["url"] = {"enum": ["https://example.com/told"]}
    components["parameters"]["task"]["example"] = [str(tasks[0].pk)]
    return schema


def uploaded(server: httpx2.Client, key: str) -> str:
    """Send a picture and return its id."""
    png = io.BytesIO()
    Image.new("RGB", (32, 32)).save(png, "PNG")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
    return str(server.post("/upload", content=png.getvalue(), headers=headers).raise_for_status().json()["id"])


def run(
    server: httpx2.Client, key: str, tasks: list[Task], folder: Path, *options: str, config: str = ""
) -> dict[str, Any]:
    """Let schemathesis run, with more in its configuration, and return its report."""
    (folder / "openapi.json").write_text(json.dumps(narrowed(server, key, tasks)))
    ids = {"tasks": [str(task.pk) for task in tasks], "uploads": [uploaded(server, key)]}
    known = "".join(f"\n[dictionaries.{name}]\nvalues = {json.dumps(values)}\n" for name, values in ids.items())
    extra = config + known
    (folder / "schemathesis.toml").write_text(f"hooks = {json.dumps(str(HOOKS))}\n{CONFIG.read_text()}\n{extra}")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={folder / 'schemathesis.toml'}",
            "run",
            str(folder / "openapi.json"),
            f"--url={server.base_url}",
            f"--header=Authorization: Bearer {key}",
            "--checks=all",
            "--mode=all",
            "--report=json",
            f"--report-json-path={folder / 'report.json'}",
            "--no-color",
            *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    (folder / "out.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def check(report: dict[str, Any], least: int) -> None:
    """Fail when less was asked than the figure says, an operation was left out or has never been reached."""
    assert (report["stop_reason"], report["failures"], report["errors"]) == ("completed", [], [])
    assert report["operations"]["tested"] == report["operations"]["total"]
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}
    assert report["warnings"]["missing_test_data"] == []
    assert report["test_cases"]["generated"] - report["test_cases"]["without_checks"] >= least, report["test_cases"]


def test_hundreds_of_requests_are_answered_as_the_schema_says(
    server: httpx2.Client, key: str, tasks: list[Task], tmp_path: Path
) -> None:
    found = run(server, key, tasks, tmp_path, f"--max-examples={SHORT}", "--seed=1", config=QUICK)
    check(found, LEAST_SHORT)


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_thousands_of_requests_are_answered_as_the_schema_says(
    server: httpx2.Client, key: str, tasks: list[Task], tmp_path: Path
) -> None:
    check(run(server, key, tasks, tmp_path, f"--max-examples={FULL}"), LEAST_FULL)
