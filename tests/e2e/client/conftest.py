"""One web server for all tests of the client; the tests change tasks in place of a worker."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from diffusers_handler_client import Client

from tasks_app.models import Task
from tests.support import stack as stacks


@pytest.fixture(scope="package")
def url(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a running web server."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment()
    with stacks.run_web(tmp_path_factory.mktemp("logs"), environment) as (api, _):
        yield str(api.base_url)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Return a client of the web server."""
    with Client(url) as client:
        yield client


def row(task: Any) -> Task:
    """Return the row of the client's task."""
    return Task.objects.get(pk=task.id)


def port_of(url: str) -> int:
    """Return the port of an address."""
    return urlsplit(url).port or 0
