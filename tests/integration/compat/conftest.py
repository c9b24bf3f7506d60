"""One web server and one worker for the tests of all compatibility APIs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from tasks_app.access import api_keys
from tasks_app.models import Scope
from tests.support import stack as stacks
from tests.support.stack import Stack

OWN = (Scope.READ, Scope.SUBMIT, Scope.MODELS)


@pytest.fixture(scope="package")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the service, with the demo model as the default."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment(DEFAULT_MODEL_ID="demo")
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


@pytest.fixture(scope="package")
def guarded(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a web server that requires keys and does not wait for tasks; yield its URL. A worker may be running."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment(API_AUTH="required", DEFAULT_MODEL_ID="demo", COMPAT_TIMEOUT_SECONDS="0")
    with stacks.run_web(tmp_path_factory.mktemp("guarded"), environment) as (api, _):
        yield str(api.base_url).rstrip("/")


@pytest.fixture
def make_key(transactional_db: None) -> Callable[..., str]:
    """Return a function that creates a key and returns it."""

    def make(name: str = "a client", scopes: tuple[Scope, ...] = OWN, **limits: Any) -> str:
        user, _ = User.objects.get_or_create(username="owner")
        return api_keys.create_api_key(user=user, name=name, scopes=scopes, **limits)[1]

    return make
