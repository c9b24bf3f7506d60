"""Fixtures for tests on the real parts."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import dramatiq
import psycopg
import pytest
from django.db import connection, connections
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tasks_app.events import progress
from tasks_app.models import Task, Worker
from tests import environment
from tests.claims import claim_one
from tests.fake import handler as fake

PARAMS: dict[str, Any] = {
    "prompt": "a house at sunset",
    "negative_prompt": "",
    "steps": 4,
    "guidance_scale": 4.0,
    "width": None,
    "height": None,
    "num_images": 1,
}

# How long an example takes says more of the machine than of what it is an example for.
hypothesis_settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("shared")

# Tests that need no server.
UNIT = Path(__file__).parent / "unit"
# What takes longest begins first, so that no process is left with a long file when the others have nothing left to do.
LONGEST_FIRST = (
    "test_commands.py",
    "chaos/test_chaos.py",
    "families/test_families.py",
    "web/test_flow.py",
    "test_presence.py",
    "handlers/test_tuning.py",
    "test_task_flow.py",
    "test_s3.py",
    "handlers/test_weighting.py",
    "client/test_readme.py",
    "test_worker.py",
    "test_embedded.py",
    "handlers/test_loras.py",
    "fuzz/test_schema.py",
    "web/test_gallery.py",
    "test_sse.py",
    "test_generate.py",
    "fuzz/test_killers.py",
    "facades/test_a1111_client.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, each of them in one piece."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if isinstance(item, pytest.Function) and UNIT not in item.path.parents:
            item.fixturenames.insert(0, "servers")


def pytest_collection_finish() -> None:
    """Keep torch's own million objects out of each later `gc.collect()`, which every model that goes makes."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Let the interpreter clear up at its end."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """Run PostgreSQL and Redis until the end of the test run."""
    with environment.run_servers():
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Let a machine that stalls take its time in this process; those that tests start keep the service's own limits."""
    options = connection.settings_dict["OPTIONS"]
    options["options"] = ""
    options["pool"]["timeout"] = 30
    for redis in (progress.client, dramatiq.get_broker().client):
        redis.connection_pool.connection_kwargs["socket_timeout"] = 10


@pytest.fixture(autouse=True)
def _redis_is_asked_again() -> Iterator[None]:
    """Let no test wait for the silence that another one's outage began."""
    yield
    progress._breaker_open_until = 0.0


@pytest.fixture(autouse=True)
def _workers_of_other_tests_are_forgotten(request: pytest.FixtureRequest) -> None:
    """Begin a transaction without workers: one that ended after the tables were emptied has left its row."""
    marker = request.node.get_closest_marker("django_db")
    in_transaction = "transactional_db" not in request.fixturenames and not (marker and marker.kwargs)
    if in_transaction and (marker or "db" in request.fixturenames):
        request.getfixturevalue("db")
        Worker.objects.all().delete()


@pytest.fixture
def make_task(db: None) -> Callable[..., Task]:
    """Return a factory of queued tasks of the fake provider."""

    def make(*, params: dict[str, Any] | None = None, **fields: Any) -> Task:
        values = {**PARAMS, **(params or {})}
        defaults = {
            "task_type": "text-to-image",
            "provider": "fake",
            "requested_model_id": "demo",
            "model_id": "demo",
            "params": values,
            "seed": 7,
            "total_steps": values["steps"],
        }
        return Task.objects.create(**{**defaults, **fields})

    return make


@pytest.fixture
def claimed(make_task: Callable[..., Task]) -> Callable[..., Task]:
    """Return a factory of running tasks."""

    def make(*, lease_seconds: float = 30, **fields: Any) -> Task:
        task = make_task(**fields)
        claimed = claim_one(worker="a-worker:1", lease_seconds=lease_seconds)
        assert claimed is not None
        assert claimed.pk == task.pk
        return claimed

    return make


@pytest.fixture
def behave() -> Iterator[Callable[[str, fake.Behaviour], str]]:
    """Return a function that says what the fake provider does with a prompt."""

    def register(prompt: str, behaviour: fake.Behaviour) -> str:
        fake.behaviours[prompt] = behaviour
        return prompt

    yield register
    fake.behaviours.clear()


@pytest.fixture
def undrained() -> Iterator[None]:
    """Let this process claim again after a test that drains it."""
    from tasks_app.worker import shutdown

    yield
    shutdown.requested.clear()
    shutdown.deadline_passed.clear()


@pytest.fixture
def events() -> Callable[[UUID], list[tuple[str, dict[str, Any]]]]:
    """Return a function that reads a task's event stream."""
    import json

    def read(task_id: UUID) -> list[tuple[str, dict[str, Any]]]:
        entries = progress.client.xrange(progress.events_key(task_id))
        return [(fields[b"event"].decode(), json.loads(fields[b"data"])) for _, fields in entries]

    return read


@pytest.fixture
def database_clock(db: None) -> Callable[[], Any]:
    """Return the database's time, the only one that rows know."""

    def now() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            return cursor.fetchone()[0]

    return now


@pytest.fixture
def empty_database(django_db_blocker: Any) -> Iterator[str]:
    """Make a database that has no tables yet, and return the alias of its connection."""
    with django_db_blocker.unblock():
        settings = connection.settings_dict
        where = {"host": settings["HOST"], "user": settings["USER"], "dbname": "postgres"}
        with psycopg.connect(**where, autocommit=True) as server:
            server.execute("CREATE DATABASE empty_one")
            connections.databases["empty"] = {**settings, "NAME": "empty_one"}
            try:
                yield "empty"
            finally:
                connections["empty"].close()
                connections["empty"].close_pool()
                del connections["empty"], connections.databases["empty"]
                server.execute("DROP DATABASE empty_one")
