"""Fixtures for tests on the real services."""

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
from tests.support import environment
from tests.support.claims import claim_one
from tests.support.fake import handler as fake
from tests.support.streams import read_entries

pytest_plugins = ["tests.support.browser"]

PARAMS: dict[str, Any] = {
    "prompt": "a house at sunset",
    "negative_prompt": "",
    "steps": 4,
    "guidance_scale": 4.0,
    "width": None,
    "height": None,
    "num_images": 1,
}

# The duration of an example depends more on the machine than on the tested code.
hypothesis_settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("shared")

# Tests that need no server.
UNIT = Path(__file__).parent / "unit"
# The longest files run first, so that no process has a long one left when the others are idle.
LONGEST_FIRST = (
    "e2e/commands/test_quickstart.py",
    "chaos/test_chaos.py",
    "integration/engine/families/test_families.py",
    "e2e/web/test_flow.py",
    "integration/worker/test_heartbeat.py",
    "integration/engine/loading/test_optimizations.py",
    "e2e/test_task_flow.py",
    "integration/images/test_s3.py",
    "integration/engine/prompts/test_weighting.py",
    "e2e/client/test_readme.py",
    "integration/worker/test_shutdown.py",
    "integration/test_embedded.py",
    "integration/engine/adapters/test_loras.py",
    "fuzz/test_schema.py",
    "e2e/web/test_gallery.py",
    "integration/live/test_sse.py",
    "e2e/commands/test_generate.py",
    "fuzz/test_killers.py",
    "integration/compat/test_a1111_client.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, each of them in one piece."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if isinstance(item, pytest.Function) and UNIT not in item.path.parents:
            item.fixturenames.insert(0, "servers")


def pytest_collection_finish() -> None:
    """Exclude torch's million objects from each later `gc.collect()`, which every unload of a model calls."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Unfreeze the objects, so that the interpreter can clean up at exit."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """Run PostgreSQL and Redis until the end of the test run."""
    with environment.run_servers():
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Raise this process's timeouts for slow machines; processes that tests start keep the service's own limits."""
    options = connection.settings_dict["OPTIONS"]
    options["options"] = ""
    options["pool"]["timeout"] = 30
    broker: Any = dramatiq.get_broker()
    for redis in (progress.client, broker.client):
        redis.connection_pool.connection_kwargs["socket_timeout"] = 10


@pytest.fixture(autouse=True)
def _redis_is_asked_again() -> Iterator[None]:
    """Close Redis's circuit breaker after each test, so that an outage in one test doesn't affect the next."""
    yield
    progress._breaker_open_until = 0.0


@pytest.fixture(autouse=True)
def _workers_of_other_tests_are_forgotten(request: pytest.FixtureRequest) -> None:
    """Delete worker rows that a worker of an earlier test wrote after the tables were emptied."""
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
    """Return a function that registers the fake provider's behaviour for a prompt."""

    def register(prompt: str, behaviour: fake.Behaviour) -> str:
        fake.behaviours[prompt] = behaviour
        return prompt

    yield register
    fake.behaviours.clear()


@pytest.fixture
def undrained() -> Iterator[None]:
    """Reset the shutdown flags after a test, so that this process claims tasks again."""
    from tasks_app.worker import shutdown

    yield
    shutdown.requested.clear()
    shutdown.deadline_passed.clear()


@pytest.fixture
def events() -> Callable[[UUID], list[tuple[str, dict[str, Any]]]]:
    """Return a function that reads a task's event stream."""
    import json

    def read(task_id: UUID) -> list[tuple[str, dict[str, Any]]]:
        return [(fields[b"event"].decode(), json.loads(fields[b"data"])) for _, fields in read_entries(task_id)]

    return read


@pytest.fixture
def database_clock(db: None) -> Callable[[], Any]:
    """Return a function that reads the database's clock, which all row timestamps use."""

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
                empty: Any = connections["empty"]
                empty.close()
                empty.close_pool()
                del connections["empty"], connections.databases["empty"]
                server.execute("DROP DATABASE empty_one")
