"""Fixtures of the real web server without a worker, so that queued tasks stay queued."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from PIL import Image
from pytest_django import DjangoDbBlocker

from project.embedded.watchdog import WatchedProcess
from tasks_app.contracts import Claim, StoredImage
from tasks_app.models import Task
from tests.conftest import PARAMS
from tests.fuzz.checks import Target
from tests.support import stack
from tests.support.claims import claim_one, succeed_one


@contextmanager
def run_web(logs: Path, **more: str) -> Iterator[httpx2.Client]:
    """Run a web server that allows some models of the Hub."""
    port = stack.free_port()
    variables = {"DJANGO_SETTINGS_MODULE": "project.settings", "ALLOWED_MODELS": "stabilityai/*", **more}
    command = ["-m", "uvicorn", "project.asgi:application", "--host=127.0.0.1", f"--port={port}", "--lifespan=off"]
    with (logs / "web.log").open("wb") as output:
        web = WatchedProcess(
            [sys.executable, *command, "--no-access-log"],
            env=stack.build_environment(**variables),
            cwd=stack.ROOT,
            output=output,
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
            stack.wait_until(lambda: _is_ready(api), bool)
            yield api
    finally:
        web.stop()


def _is_ready(api: httpx2.Client) -> bool:
    try:
        return api.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="package")
def web(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx2.Client, Path]]:
    """Return a client of a server that all tests here share, and the server's log."""
    logs = tmp_path_factory.mktemp("fuzz")
    with django_db_blocker.unblock(), run_web(logs) as api:
        yield api, logs / "web.log"


@pytest.fixture
def target(web: tuple[httpx2.Client, Path], tasks: list[Task]) -> Iterator[Target]:
    """Return the server as a checked target, and fail if it logs a traceback."""
    api, log = web
    read = log.stat().st_size
    yield Target(api=api, count_rows=count_rows)
    with log.open() as lines:
        lines.seek(read)
        assert "Traceback" not in lines.read()


def count_rows() -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {Task._meta.db_table}")
        return int(cursor.fetchone()[0])


@pytest.fixture
def tasks(transactional_db: None) -> list[Task]:
    """Create a task with an image and a queued one."""
    fields = {"task_type": "text-to-image", "provider": "diffusers", "model_id": "demo", "params": PARAMS, "seed": 7}
    made = [Task.objects.create(requested_model_id="demo", total_steps=4, **fields) for _ in range(2)]
    claimed = claim_one(worker="a-worker:1", lease_seconds=30)
    assert claimed is not None
    png = BytesIO()
    Image.new("RGB", (32, 32)).save(png, "PNG")
    name = default_storage.save(f"tasks/{claimed.pk}/1-0.png", ContentFile(png.getvalue()))
    image = StoredImage(
        index=0,
        name=name,
        content_type="image/png",
        seed=7,
        width=32,
        height=32,
        sha256="ab",
        flagged=False,
        blank=False,
    )
    claim = Claim(task_id=claimed.pk, attempt=1)
    assert succeed_one(claim, [image], size={"width": 32, "height": 32})
    return made
