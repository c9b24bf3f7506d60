"""What a process holds, and what its claims make of that: with the fake engine, and with real tiny models."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks_app.engine.types import LoadOptions
from tasks_app.models import Status, Task
from tasks_app.worker import engines, supervisor
from tasks_app.worker.warm_models import CapacityTracker
from tests.support import tiny

MakeTask = Callable[..., Task]
# Of no other test's: a process counts the loads of its models.
NAMES = ("warm-one", "warm-two")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the only engine of this process, which holds nothing yet."""
    engine = engines.get_handler("text-to-image", "fake")
    monkeypatch.setattr(engines, "_handlers", {("tests.support.fake.handler.FakeHandler", "fake"): engine})
    monkeypatch.setattr(engine, "warm", {})
    return engine


def test_the_time_counts_from_when_something_else_was_held(engine: Any) -> None:
    warmth = CapacityTracker()
    warmth._unchanged_since -= 100
    assert (warmth.get_capacity().models, warmth.get_capacity().unchanged_seconds >= 100) == (frozenset(), True)
    engine.preload_model("demo", "r1", LoadOptions())
    held = warmth.get_capacity()
    assert [(model.model_id, model.revision) for model in held.models] == [("demo", "r1")]
    assert held.unchanged_seconds < 50
    warmth._unchanged_since -= 100
    assert warmth.get_capacity().unchanged_seconds >= 100


def test_a_worker_claims_for_what_it_holds(engine: Any, make_task: MakeTask) -> None:
    make_task(model_id="other")
    task = make_task(model_id="demo")
    engine.preload_model("demo", "r1", LoadOptions())
    assert supervisor.run_once()
    assert Task.objects.get(pk=task.pk).status == Status.SUCCEEDED


def test_alternating_models_with_room_for_one_are_loaded_twice_and_not_forty_times(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    for name in NAMES:
        tiny.save_sd(tmp_path / name)
    place = {"models_dir": tmp_path, "hub_cache": tmp_path, "device": "cpu", "max_cached_models": 1}
    settings.PROVIDERS = {"diffusers": place}
    monkeypatch.setattr(engines, "_handlers", {})
    for number in range(40):
        make_task(provider="diffusers", model_id=NAMES[number % 2], params={"steps": 1})
    began = time.monotonic()
    while supervisor.run_once():
        pass
    assert Task.objects.filter(status=Status.SUCCEEDED).count() == 40
    uses = {
        use.model_id: use.loads for use in engines.get_loaded_handlers()[0].get_state().uses if use.model_id in NAMES
    }
    # Once each, and once more for each bound that passed.
    assert 2 <= sum(uses.values()) <= 2 + (time.monotonic() - began) // settings.MODEL_AFFINITY_SECONDS
    assert sum(uses.values()) <= 4
