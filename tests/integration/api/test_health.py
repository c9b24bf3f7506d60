"""The probes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as ours
from django.db import connection
from django.test import Client

from tasks_app.api import health
from tasks_app.catalog import rows as model_rows
from tasks_app.models import DiffusionModel
from tasks_app.queue import workers

READY = {"status": "ok", "database": "ok", "redis": "ok", "storage": "ok", "default_model": "ok", "workers": 0}


@pytest.fixture(autouse=True)
def _storage_is_looked_at() -> Iterator[None]:
    health._check_storage.cache_clear()
    yield
    health._check_storage.cache_clear()


def test_healthz_answers_without_a_database(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_readyz_tells_each_part(client: Client, db: None) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, READY)
    assert not list(Path(ours.MEDIA_ROOT).glob("probe-*"))


def test_workers_and_the_default_model_are_told_and_not_needed(client: Client, db: None) -> None:
    for name in ("lives", "left"):
        workers.record_heartbeat(name, host="here", pid=1, version="1", engine=None)
    workers.deregister_worker("left")
    model_rows.sync_rows()
    DiffusionModel.objects.update(allowed=False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {**READY, "default_model": "is not allowed", "workers": 1})


def test_a_storage_that_refuses_makes_it_unready(client: Client, db: None, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    settings.MEDIA_ROOT = tmp_path / "a-file"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {**READY, "status": "unavailable", "storage": "is not writable"}


def test_the_storage_is_looked_at_once_in_a_while(settings: Any, tmp_path: Path) -> None:
    assert health._check_storage(1) == "ok"
    (tmp_path / "a-file").touch()
    settings.MEDIA_ROOT = tmp_path / "a-file"
    assert (health._check_storage(1), health._check_storage(2)) == ("ok", "is not writable")


def test_missing_migrations_make_it_unready(client: Client, db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'tasks_app' AND name = '0003_plain_names'")
        assert cursor.rowcount == 1
    answer = client.get("/readyz")
    assert answer.status_code == 503
    told = {"database": "migrations are missing", "default_model": "unknown", "workers": None}
    assert answer.json() == {**READY, "status": "unavailable", **told}
