"""A worker that loads, evicts, fails and is interrupted all the time holds no more at the end than at the start."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dramatiq
import pytest

from project.embedded.watchdog import WatchedProcess
from tests.soak import measure
from tests.soak.load import Load, models, plan
from tests.support import stack
from tests.support.stack import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.soak]
Soak = Callable[..., Load]


@contextmanager
def worker(tmp_path: Path, **variables: str) -> Iterator[WatchedProcess]:
    """Run a worker whose connections bear a name, beside models of its own."""
    found = stack.build_environment()
    named = {
        "DATABASE_URL": f"{found['DATABASE_URL']}?application_name={measure.NAME}",
        "REDIS_URL": f"{found['REDIS_URL']}{'&' if '?' in found['REDIS_URL'] else '?'}client_name={measure.NAME}",
        "MODELS_DIR": str(tmp_path / "models"),
        "HEARTBEAT_SECONDS": "0.2",
    }
    with (tmp_path / "worker.log").open("wb") as log:
        process = WatchedProcess(
            [sys.executable, "manage.py", "rundramatiq"],
            env={**found, **named, **variables},
            cwd=stack.ROOT,
            output=log,
        )
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Soak:
    """Return a function that runs a plan of so many tasks on one worker, and prints what it held."""
    dramatiq.get_broker().flush_all()
    models(tmp_path / "models")

    def run(tasks: int, *, every: int, patience: float, **variables: str) -> Load:
        load = Load(plan(tasks), every=every)
        with worker(tmp_path, **variables) as process:
            started = time.monotonic()
            wait_until(
                lambda: (load.tend(), process.poll()), lambda seen: seen[0] == tasks or seen[1], patience=patience
            )
            seconds = time.monotonic() - started
        with capsys.disabled():
            print(f"\n{tasks} tasks in {seconds:.0f} s ({variables}), in MiB:\n{measure.table(load.samples)}")
        return load

    return run


def test_descriptors_threads_and_connections_stay_and_every_task_ends_as_planned(soak: Soak) -> None:
    load = soak(60, every=2, patience=90, MAX_CACHED_MODELS="1")
    assert load.surprises() == []
    assert len(load.workers) == 1
    assert measure.rising(load.samples) == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("tasks", "cached"), [(2000, "1"), (400, "2")], ids=["one model kept", "both kept"])
def test_thousands_of_tasks_leave_a_worker_as_it_was(soak: Soak, tasks: int, cached: str) -> None:
    load = soak(tasks, every=10, patience=3000, MAX_CACHED_MODELS=cached)
    assert load.surprises() == []
    assert len(load.workers) == 1
    assert measure.rising(load.samples) == []
    assert measure.growth(load.samples) <= measure.GROWTH
