"""The registry, its checks and the way to a handler."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tasks_app import checks
from tasks_app.task_types import registry
from tasks_app.task_types.registry import TaskType
from tasks_app.worker import engines
from tests.support.fake.handler import FakeHandler


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(registry._registry)
    yield
    registry._registry.clear()
    registry._registry.update(before)


def entry(**more: str) -> TaskType:
    values = {
        "name": "text-to-image",
        "provider": "fake",
        "params": "tests.support.fake.params.FakeParams",
        "handler": "tests.support.fake.handler.FakeHandler",
    }
    return TaskType(**{**values, **more})


def test_what_is_registered_passes() -> None:
    assert checks.check_task_types() == []


@pytest.mark.parametrize(
    ("more", "check"),
    [
        ({"handler": "tests.nowhere.Handler"}, "tasks_app.E001"),
        ({"params": "nowhere.at.all.Params"}, "tasks_app.E001"),
        ({"provider": "unknown"}, "tasks_app.E002"),
    ],
    ids=str,
)
def test_an_entry_that_leads_nowhere_is_told(registered: None, more: dict[str, str], check: str) -> None:
    registry.register_task_type(entry(**more))
    assert [message.id for message in checks.check_task_types()] == [check]


def test_a_default_model_that_is_none_is_told(settings: Any) -> None:
    assert checks.check_default_model() == []
    settings.DEFAULT_MODEL_ID = "gone"
    assert [message.id for message in checks.check_default_model()] == ["tasks_app.E003"]


# Lets the extra look as if it were not installed.
WITHOUT = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "storages":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check"])
"""


def test_a_bucket_without_its_extra_is_told(settings: Any) -> None:
    assert checks.check_storage() == []
    env = {**os.environ, "S3_BUCKET": "pictures", "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "tasks_app.E005" in done.stderr
    assert "uv sync --extra s3" in done.stderr
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "tasks_app.images.s3.BucketStorage"}}
    assert checks.check_storage() == []


def test_a_server_that_allows_everything_is_warned_of(settings: Any) -> None:
    assert checks.check_allowed_models() == []
    settings.ALLOWED_MODELS = ["org/*", "*"]
    assert [message.id for message in checks.check_allowed_models()] == ["tasks_app.W001"]


def test_more_warm_models_than_stay_loaded_are_warned_of(settings: Any) -> None:
    settings.WARM_MODELS = ["demo"]
    assert checks.check_warm_models() == []
    settings.WARM_MODELS = ["demo", "org/other"]
    assert [message.id for message in checks.check_warm_models()] == ["tasks_app.W004"]


def test_an_old_name_in_the_environment_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANG_SECONDS", "5")
    (message,) = checks.check_renamed_settings()
    assert (message.id, "STEP_TIMEOUT_SECONDS" in message.msg) == ("tasks_app.W005", True)


def test_a_sentry_without_its_package_is_told(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SENTRY_DSN = "https://key@sentry.example.org/1"
    assert checks.check_sentry() == []
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)  # what an import that must fail is marked with
    assert [message.id for message in checks.check_sentry()] == ["tasks_app.E004"]
    settings.SENTRY_DSN = None
    assert checks.check_sentry() == []


def test_a_provider_has_one_handler_per_process() -> None:
    handler = engines.get_handler("text-to-image", "fake")
    assert isinstance(handler, FakeHandler)
    assert engines.get_handler("text-to-image", "fake") is handler


def test_an_unknown_provider_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        engines.get_handler("text-to-image", "unknown")
