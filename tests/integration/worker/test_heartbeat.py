"""A worker seen and steered: in this process with taps that are counted, and as real processes."""

import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from django.conf import settings

from tasks_app import errors, services
from tasks_app.models import Pause, Status, Task, Worker, WorkerCommand
from tasks_app.queue import dispatch, pauses, workers
from tasks_app.queue.workers import CommandOutcome, WorkerState
from tasks_app.task_types.registry import TEXT_TO_IMAGE
from tasks_app.worker import engines, heartbeat, shutdown, supervisor
from tests.integration.queue.test_services import tickets
from tests.support.stack import run_worker, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
MakeTask = Callable[..., Task]
WORKER = Pause.Scope.WORKER
QUICK = {
    "LEASE_SECONDS": "2",
    "HEARTBEAT_SECONDS": "0.2",
    "SWEEP_INTERVAL_SECONDS": "0.2",
    "WAKE_UP_INTERVAL_SECONDS": "2",
}


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    dramatiq.get_broker().flush_all()
    yield
    dramatiq.get_broker().flush_all()


class Tap:
    """A consumer that counts."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pause(self) -> None:
        self.said.append("pause")

    def resume(self) -> None:
        self.said.append("resume")


@pytest.fixture
def tap() -> Tap:
    return Tap()


@pytest.fixture
def ended() -> threading.Event:
    """Return what is set when this process is told to end."""
    return threading.Event()


@pytest.fixture
def seen(tap: Tap, ended: threading.Event) -> heartbeat.WorkerHeartbeat:
    """Return this process as a worker."""
    workers.register_worker(
        supervisor.WORKER_NAME, pid=os.getpid(), age=heartbeat._get_process_age(), **heartbeat._IDENTITY
    )
    return heartbeat.WorkerHeartbeat([tap], ended)


def settled(seen: heartbeat.WorkerHeartbeat) -> WorkerCommand:
    """Let the worker go on until its command has ended."""

    def look() -> WorkerCommand:
        seen.apply_commands()
        return WorkerCommand.objects.get()

    return wait_until(look, lambda command: command.ended_at)


def test_taps_close_once_with_the_pause_and_open_once_after_it(seen: heartbeat.WorkerHeartbeat, tap: Tap) -> None:
    seen.apply_commands()
    pauses.create_pause(WORKER, supervisor.WORKER_NAME)
    seen.apply_commands()
    seen.apply_commands()
    assert tap.said == ["pause"]
    pauses.delete_pause(WORKER, supervisor.WORKER_NAME)
    seen.apply_commands()
    seen.apply_commands()
    assert tap.said == ["pause", "resume"]


def test_a_paused_worker_passes_one_ticket_on_to_others_and_no_more(
    seen: heartbeat.WorkerHeartbeat, make_task: MakeTask
) -> None:
    task, _ = make_task(), make_task()
    pauses.create_pause(WORKER, supervisor.WORKER_NAME)
    for _ in range(5):
        seen.apply_commands()
    assert tickets() == [str(task.pk)]


def test_a_paused_worker_sends_no_ticket_while_the_queue_is_paused(
    seen: heartbeat.WorkerHeartbeat, make_task: MakeTask
) -> None:
    make_task()
    pauses.create_pause(WORKER, supervisor.WORKER_NAME)
    pauses.create_pause(Pause.Scope.QUEUE)
    seen.apply_commands()
    assert tickets() == []


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let commands reach the fake provider's engine."""
    engine = engines.get_handler("text-to-image", "fake")
    monkeypatch.setattr(engines, "_handlers", {(TEXT_TO_IMAGE.handler, "diffusers"): engine})
    return engine


def test_a_preload_reaches_the_engine_and_the_row(seen: heartbeat.WorkerHeartbeat, fake_engine: Any) -> None:
    services.send_worker_command(WorkerCommand.Kind.PRELOAD, "demo", [supervisor.WORKER_NAME])
    assert settled(seen).error == ""
    seen.update_row()
    assert workers.get_workers_by_model() == {"demo": [supervisor.WORKER_NAME]}
    WorkerCommand.objects.all().delete()
    services.send_worker_command(WorkerCommand.Kind.UNLOAD, "demo", [supervisor.WORKER_NAME])
    assert settled(seen).error == ""
    seen.update_row()
    assert workers.get_workers_by_model() == {}


def test_a_model_that_is_not_allowed_is_refused_in_words(seen: heartbeat.WorkerHeartbeat, fake_engine: Any) -> None:
    services.send_worker_command(WorkerCommand.Kind.PRELOAD, "nobody/knows", [supervisor.WORKER_NAME])
    assert settled(seen).error.startswith("This server does not allow this model.")


def test_an_unexpected_error_is_told_without_its_text(
    seen: heartbeat.WorkerHeartbeat, fake_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(fake_engine, "preload_model", explode)
    services.send_worker_command(WorkerCommand.Kind.PRELOAD, "demo", [supervisor.WORKER_NAME])
    assert settled(seen).error == "Unexpected error: RuntimeError."


def test_warm_models_are_loaded_at_the_start_and_given_up_once_idle(
    seen: heartbeat.WorkerHeartbeat, fake_engine: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake_engine.warm.clear()
    settings.WARM_MODELS = ["nobody/knows", "demo"]
    gone = threading.Event()
    thread = threading.Thread(target=seen.run_forever, args=[gone])
    thread.start()
    try:
        wait_until(workers.get_workers_by_model, lambda warm: warm == {"demo": [supervisor.WORKER_NAME]})
        settings.IDLE_UNLOAD_SECONDS = 60.0
        wait_until(workers.get_workers_by_model, lambda warm: warm == {})
        assert fake_engine.idle_for == 60
    finally:
        gone.set()
        thread.join()
    assert "WARM_MODELS: nobody/knows was not loaded: This server does not allow this model." in caplog.text
    assert "Model demo loaded." in caplog.text


def test_unloading_where_no_engine_has_started_starts_none(
    seen: heartbeat.WorkerHeartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_handlers", {})
    services.send_worker_command(WorkerCommand.Kind.UNLOAD, "demo", [supervisor.WORKER_NAME])
    assert settled(seen).error == ""
    assert engines.get_loaded_handlers() == []


def test_a_tap_that_is_opened_while_the_process_is_told_to_end_is_closed_again(
    seen: heartbeat.WorkerHeartbeat, tap: Tap, ended: threading.Event
) -> None:
    pauses.create_pause(WORKER, supervisor.WORKER_NAME)
    seen.apply_commands()
    pauses.delete_pause(WORKER, supervisor.WORKER_NAME)
    ended.set()
    seen.apply_commands()
    assert tap.said[-1] == "pause"


def test_a_device_lost_in_a_preload_ends_the_process_before_a_task_finds_out(
    seen: heartbeat.WorkerHeartbeat, fake_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[int] = []

    def lose(*_: object) -> None:
        raise errors.DeviceLostError("The device failed; the worker is restarting.")

    monkeypatch.setattr(fake_engine, "preload_model", lose)
    monkeypatch.setattr(shutdown, "exit_now", lambda status, reason: ends.append(status))
    services.send_worker_command(WorkerCommand.Kind.PRELOAD, "demo", [supervisor.WORKER_NAME])
    assert settled(seen).error == "The device failed; the worker is restarting."
    assert ends == [shutdown.EXIT_DEVICE_LOST]


def test_a_worker_that_is_to_end_is_still_seen_but_takes_no_command(
    seen: heartbeat.WorkerHeartbeat, ended: threading.Event
) -> None:
    gone = threading.Event()
    ended.set()
    before = Worker.objects.get().seen_at
    thread = threading.Thread(target=seen.run_forever, args=[gone])
    thread.start()
    # Arriving settles what waited before.
    arrived = wait_until(lambda: Worker.objects.get().seen_at, lambda now: now > before)
    services.send_worker_command(WorkerCommand.Kind.UNLOAD, "demo", [supervisor.WORKER_NAME])
    wait_until(lambda: Worker.objects.get().seen_at, lambda now: now > arrived)
    gone.set()
    thread.join()
    assert workers.list_commands().get().outcome == CommandOutcome.WAITING


# --- Real workers ----------------------------------------------------------------------------------------------------


def row(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def submitted(make_task: MakeTask, prompt: str, steps: int = 4, **fields: Any) -> Task:
    task = make_task(params={"prompt": prompt, "steps": steps}, **fields)
    dispatch.send_wake_up(task.pk)
    return task


def state_of(name: str) -> str:
    found = workers.list_workers().filter(name=name).first()
    return "" if found is None else found.state


def until_state(name: str, state: WorkerState, *, patience: float = 60) -> None:
    wait_until(lambda: state_of(name), lambda now: now == state, patience=patience)


def test_a_paused_queue_holds_a_task_until_it_is_resumed_and_then_it_runs_at_once(
    make_task: MakeTask, tmp_path: Path
) -> None:
    services.pause_claims(Pause.Scope.QUEUE)
    with run_worker(tmp_path, WORKER_NAME="one"):
        until_state("one", WorkerState.IDLE)
        task = submitted(make_task, "pace 0")
        # The worker has seen the ticket, and let the task lie.
        wait_until(dispatch.get_queue_depth, lambda waiting: not waiting)
        assert row(task).status == Status.QUEUED
        services.resume_claims(Pause.Scope.QUEUE)
        resumed = time.monotonic()
        wait_until(lambda: row(task), lambda now: now.status == Status.SUCCEEDED)
        assert time.monotonic() - resumed < settings.WAKE_UP_INTERVAL_SECONDS


def test_a_pause_outlasts_the_worker(make_task: MakeTask, tmp_path: Path) -> None:
    with run_worker(tmp_path, WORKER_NAME="one") as process:
        until_state("one", WorkerState.IDLE)
        services.pause_claims(WORKER, "one")
        until_state("one", WorkerState.PAUSED)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert state_of("one") == WorkerState.STOPPED
    with run_worker(tmp_path, WORKER_NAME="one"):
        until_state("one", WorkerState.PAUSED)
        task = submitted(make_task, "pace 0")
        services.resume_claims(WORKER, "one")
        wait_until(lambda: row(task), lambda now: now.status == Status.SUCCEEDED)


def test_a_drained_worker_finishes_its_task_and_another_one_has_the_next(make_task: MakeTask, tmp_path: Path) -> None:
    unhurried = {**QUICK, "LEASE_SECONDS": "30"}  # nothing here is to be lost
    with run_worker(tmp_path, WORKER_NAME="one", **unhurried):
        first = submitted(make_task, "pace 0.1", 60)
        until_state("one", WorkerState.BUSY)
        services.pause_claims(WORKER, "one")
        assert state_of("one") == WorkerState.DRAINING
        second = submitted(make_task, "pace 0")
        ended = wait_until(lambda: row(first), lambda now: now.finished_at)
        assert (ended.status, ended.worker, ended.attempt) == (Status.SUCCEEDED, "one", 1)
        until_state("one", WorkerState.PAUSED)
        assert row(second).status == Status.QUEUED
        with run_worker(tmp_path, WORKER_NAME="two", **unhurried):
            taken = wait_until(lambda: row(second), lambda now: now.finished_at)
    assert (taken.status, taken.worker, taken.attempt) == (Status.SUCCEEDED, "two", 1)


def test_a_paused_worker_swallows_no_tickets_and_sends_none_in_a_loop(make_task: MakeTask, tmp_path: Path) -> None:
    services.pause_claims(WORKER, "one")
    with run_worker(tmp_path, WORKER_NAME="one", **{**QUICK, "WAKE_UP_INTERVAL_SECONDS": "0.2"}):
        until_state("one", WorkerState.PAUSED)
        tasks = [submitted(make_task, "pace 0") for _ in range(5)]
        # As many beats and sweeps as would let tickets pile up, or be eaten up.
        for _ in range(6):
            seen_at = Worker.objects.get().seen_at
            wait_until(lambda: Worker.objects.get().seen_at, partial(operator.lt, seen_at))
        # One each, and one that the worker may send between the first row and its ticket; none from then on.
        assert 1 <= dispatch.get_queue_depth() <= len(tasks) + 1
        assert {row(task).attempt for task in tasks} == {0}


def test_a_killed_worker_is_shown_dead_within_a_lease_and_never_as_busy(
    make_task: MakeTask, tmp_path: Path, settings: Any, database_clock: Callable[[], Any]
) -> None:
    lease = settings.LEASE_SECONDS = float(QUICK["LEASE_SECONDS"])
    with run_worker(tmp_path, WORKER_NAME="one", **QUICK) as process:
        task = submitted(make_task, "pace 0.05", 400)
        wait_until(lambda: row(task), lambda now: now.step > 0)
        until_state("one", WorkerState.BUSY)
        os.killpg(process.pid, signal.SIGKILL)
        until_state("one", WorkerState.DEAD)
        silent = database_clock() - Worker.objects.get().seen_at
        assert timedelta(seconds=lease) <= silent < timedelta(seconds=lease + 10)
        assert row(task).status == Status.RUNNING


def test_a_stopped_worker_has_left_at_once(tmp_path: Path) -> None:
    with run_worker(tmp_path, WORKER_NAME="one") as process:
        until_state("one", WorkerState.IDLE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert state_of("one") == WorkerState.STOPPED


def test_a_preload_makes_the_model_warm_and_its_first_task_loads_nothing(make_task: MakeTask, tmp_path: Path) -> None:
    def done(kind: WorkerCommand.Kind, model_id: str) -> str:
        (ordered,) = services.send_worker_command(kind, model_id, ["one"])
        ended = wait_until(lambda: workers.list_commands().get(pk=ordered.pk), lambda command: command.ended_at)
        return str(ended.error or ended.outcome)

    def uses() -> tuple[int, int]:
        (use,) = [use for use in Worker.objects.get().uses if use["model_id"] == "demo"]
        return use["loads"], use["hits"]

    with run_worker(tmp_path, WORKER_NAME="one"):
        until_state("one", WorkerState.IDLE)
        assert done(WorkerCommand.Kind.PRELOAD, "demo") == CommandOutcome.DONE
        wait_until(workers.get_workers_by_model, lambda warm: warm == {"demo": ["one"]})
        task = submitted(make_task, "a red house", provider="diffusers")
        ended = wait_until(lambda: row(task), lambda now: now.finished_at)
        assert ended.status == Status.SUCCEEDED, ended.error_message
        wait_until(uses, lambda found: found == (1, 1))
        assert done(WorkerCommand.Kind.UNLOAD, "demo") == CommandOutcome.DONE
        wait_until(workers.get_workers_by_model, lambda warm: warm == {})
        error = done(WorkerCommand.Kind.PRELOAD, settings.DEFAULT_MODEL_ID)
        assert "is not on this server and couldn't be downloaded: this server is offline" in error
        again = submitted(make_task, "a red house", provider="diffusers")
        wait_until(lambda: row(again), lambda now: now.finished_at)
        wait_until(uses, lambda found: found == (2, 1))
