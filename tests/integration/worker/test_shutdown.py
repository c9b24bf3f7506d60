"""`manage.py rundramatiq` as a supervisor sees it: signals, exit statuses, and what becomes of its task."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import dramatiq
import pytest

from tasks_app import services
from tasks_app.models import Status, Task
from tasks_app.queue import dispatch, workers
from tasks_app.worker import shutdown
from tasks_app.worker.middleware import _drain_on_crash
from tests.support.stack import run_worker, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def _empty_queue() -> None:
    dramatiq.get_broker().flush_all()


def row(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def submitted(make_task: MakeTask, prompt: str, steps: int) -> Task:
    task = make_task(params={"prompt": prompt, "steps": steps})
    dispatch.send_wake_up(task.pk)
    return task


def until_running(task: Task) -> Task:
    return wait_until(lambda: row(task), lambda now: now.step > 0)


def worker_pid(task: Task) -> int:
    return int(row(task).worker.rpartition(":")[2])


def until_told(folder: Path) -> None:
    """Wait until the signal has come to the worker itself, by way of Dramatiq's master."""
    wait_until(lambda: (folder / "worker.log").read_text(), lambda log: "Stopping worker process" in log)


def test_sigterm_lets_a_short_task_finish_and_exits_with_0(make_task: MakeTask, tmp_path: Path) -> None:
    with run_worker(tmp_path) as process:
        task = submitted(make_task, "pace 0.1", 25)
        until_running(task)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert (row(task).status, row(task).attempt) == (Status.SUCCEEDED, 1)


@pytest.mark.parametrize("grace", ["0.5", "60"], ids=["the grace is over", "a second signal hurries"])
def test_a_longer_task_is_given_back_without_a_loss_and_the_next_worker_has_it_within_two_seconds(
    make_task: MakeTask, tmp_path: Path, grace: str
) -> None:
    with (
        run_worker(tmp_path, SHUTDOWN_GRACE_SECONDS=grace) as one,
        run_worker(tmp_path, SHUTDOWN_GRACE_SECONDS=grace) as two,
    ):
        task = submitted(make_task, "pace 0.05", 100)
        master = os.getpgid(worker_pid(until_running(task)))
        draining, other = (one, two) if master == one.pid else (two, one)
        draining.send_signal(signal.SIGTERM)
        if grace == "60":
            # Two signals at the same moment would be one.
            until_told(tmp_path)
            assert row(task).status == Status.RUNNING
            draining.send_signal(signal.SIGTERM)
        wait_until(lambda: row(task), lambda now: now.status == Status.QUEUED or now.attempt == 2)
        given_back = time.monotonic()
        again = wait_until(lambda: row(task), lambda now: now.attempt == 2)
        assert time.monotonic() - given_back < 2
        assert draining.wait(timeout=20) == 0
        assert (again.lost_workers, os.getpgid(worker_pid(again))) == (0, other.pid)
        ended = wait_until(lambda: row(task), lambda now: now.finished_at)
    assert ended.status == Status.SUCCEEDED


def test_a_draining_worker_claims_no_more(make_task: MakeTask, tmp_path: Path) -> None:
    with run_worker(tmp_path) as process:
        # Its row tells of a step after a second at the earliest: it must still run then.
        first = submitted(make_task, "pace 0.1", 40)
        until_running(first)
        process.send_signal(signal.SIGTERM)
        until_told(tmp_path)
        second = submitted(make_task, "pace 0", 1)
        assert process.wait(timeout=20) == 0
    assert row(first).status == Status.SUCCEEDED
    assert (row(second).status, row(second).attempt) == (Status.QUEUED, 0)


def test_a_worker_whose_master_is_killed_gives_its_task_back_and_ends(make_task: MakeTask, tmp_path: Path) -> None:
    with run_worker(tmp_path) as process:
        task = submitted(make_task, "pace 0.05", 400)
        pid = worker_pid(until_running(task))
        process.kill()
        given_back = wait_until(lambda: row(task), lambda now: now.status == Status.QUEUED)
        wait_until(lambda: Path(f"/proc/{pid}").exists(), lambda exists: not exists, patience=10)
    assert given_back.lost_workers == 0


def test_a_killed_worker_loses_its_task_to_the_next_one_after_the_lease(make_task: MakeTask, tmp_path: Path) -> None:
    variables = {"LEASE_SECONDS": "2", "HEARTBEAT_SECONDS": "0.2", "SWEEP_INTERVAL_SECONDS": "0.2"}
    with run_worker(tmp_path, **variables) as first:
        task = submitted(make_task, "pace 0.05", 400)
        until_running(task)
        # The one that goes on with it is to lose nothing, however busy the machine is.
        with run_worker(tmp_path, **{**variables, "LEASE_SECONDS": "30"}):
            wait_until(workers.list_workers().count, lambda living: living == 2)
            assert row(task).attempt == 1
            os.killpg(first.pid, signal.SIGKILL)
            killed = time.monotonic()
            wait_until(lambda: row(task), lambda now: now.lost_workers)
            assert time.monotonic() - killed < 2 + 10
            wait_until(lambda: row(task).attempt, lambda attempt: attempt == 2)
            services.cancel_task(task.pk)
            ended = wait_until(lambda: row(task), lambda now: now.finished_at)
    assert (ended.status, ended.attempt, ended.lost_workers) == (Status.CANCELED, 2, 1)


def test_a_hung_step_ends_the_worker_so_that_the_lease_can_move_the_task_on(
    make_task: MakeTask, tmp_path: Path
) -> None:
    with run_worker(tmp_path, STEP_TIMEOUT_SECONDS="1") as process:
        task = submitted(make_task, "hang", 4)
        assert process.wait(timeout=30) == shutdown.EXIT_STALLED
    assert row(task).status == Status.RUNNING


def test_a_lost_device_fails_its_task_and_ends_the_worker(make_task: MakeTask, tmp_path: Path) -> None:
    with run_worker(tmp_path) as process:
        task = submitted(make_task, "lose", 4)
        assert process.wait(timeout=30) == shutdown.EXIT_DEVICE_LOST
    assert (row(task).status, row(task).error_code) == (Status.FAILED, "internal")


def test_a_thread_that_dies_of_an_error_takes_its_worker_along_and_one_that_is_to_end_does_not() -> None:
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    ended = threading.Event()

    def die() -> None:
        raise ValueError("as the test wants it")

    try:
        ended.set()
        with pytest.raises(ValueError, match="as the test"):
            _drain_on_crash(die, ended)
        assert not told.is_set()
        ended.clear()
        with pytest.raises(ValueError, match="as the test"):
            _drain_on_crash(die, ended)
        assert told.wait(timeout=5)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_when_its_child_dies_the_master_ends_too_and_says_so(make_task: MakeTask, tmp_path: Path) -> None:
    with run_worker(tmp_path) as process:
        task = submitted(make_task, "poison", 4)
        assert process.wait(timeout=30) not in (0, None)
    assert row(task).status == Status.RUNNING
