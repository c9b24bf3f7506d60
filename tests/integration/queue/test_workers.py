"""The workers' rows and their commands: no stale truth."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from tasks_app.contracts import Claim
from tasks_app.engine.types import EngineState, WarmModel
from tasks_app.models import Pause, Task, Worker, WorkerCommand
from tasks_app.queue import lifecycle, pauses, workers
from tasks_app.queue.workers import CommandOutcome, WorkerState
from tests.support.claims import claim_one
from tests.support.stack import wait_until

MakeTask = Callable[..., Task]
PRELOAD, UNLOAD = WorkerCommand.Kind.PRELOAD, WorkerCommand.Kind.UNLOAD
IDENTITY: dict[str, Any] = {"host": "here", "pid": 1, "version": "1"}
ENGINE = EngineState(
    device="cuda:0",
    device_name="A card",
    memory_used=1,
    memory_total=4,
    warm=(WarmModel(model_id="demo", revision="local"),),
)


@pytest.fixture(autouse=True)
def _database(db: None) -> None:
    """All of it is rows."""


def arrive(name: str, *, age: float = 60) -> None:
    workers.register_worker(name, age=timedelta(seconds=age), **IDENTITY)


def silence(name: str, seconds: float) -> None:
    Worker.objects.filter(name=name).update(seen_at=Now() - timedelta(seconds=seconds))


def states() -> dict[str, str]:
    return {worker.name: worker.state for worker in workers.list_workers()}


def outcomes() -> list[str]:
    return [command.outcome for command in workers.list_commands().order_by("pk")]


def test_a_worker_is_idle_busy_draining_and_paused_in_turn(make_task: MakeTask) -> None:
    arrive("one")
    task = make_task()
    assert states() == {"one": WorkerState.IDLE}
    claim_one(worker="one", lease_seconds=30)
    assert states() == {"one": WorkerState.BUSY}
    assert workers.list_workers().get().task_id == task.pk
    pauses.create_pause(Pause.Scope.WORKER, "one")
    assert states() == {"one": WorkerState.DRAINING}
    lifecycle.release_task(Claim(task_id=task.pk, attempt=1))
    assert states() == {"one": WorkerState.PAUSED}


@pytest.mark.django_db(transaction=True)
def test_a_process_is_seen_only_once_what_the_last_one_left_is_forgotten() -> None:
    def arrive_anew() -> None:
        try:
            workers.register_worker("one", age=timedelta(0), **IDENTITY | {"pid": 2})
        finally:
            connection.close()

    arrive("one")
    workers.enqueue_commands(PRELOAD, "demo", ["one"])
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            WorkerCommand.objects.select_for_update().get()
            arriving = pool.submit(arrive_anew)
            wait_until(waiting_for_a_lock, bool)
            assert Worker.objects.get().pid == 1
        arriving.result()
    assert (Worker.objects.get().pid, outcomes()) == (2, [CommandOutcome.FAILED])


def waiting_for_a_lock() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])


def test_a_silent_worker_is_dead_after_a_lease_whatever_its_rows_say(make_task: MakeTask, settings: Any) -> None:
    settings.LEASE_SECONDS = 10
    arrive("one")
    make_task()
    claim_one(worker="one", lease_seconds=30)
    pauses.create_pause(Pause.Scope.WORKER, "one")
    silence("one", 9)
    assert states() == {"one": WorkerState.DRAINING}
    silence("one", 11)
    assert states() == {"one": WorkerState.DEAD}


def test_a_worker_that_ended_has_left_and_holds_nothing() -> None:
    arrive("one")
    workers.record_heartbeat("one", engine=ENGINE, **IDENTITY)
    assert workers.get_workers_by_model() == {"demo": ["one"]}
    workers.deregister_worker("one")
    assert states() == {"one": WorkerState.STOPPED}
    assert workers.get_workers_by_model() == {}


def test_the_living_come_first() -> None:
    for name in ("a", "b", "c"):
        arrive(name)
    silence("a", 1000)
    workers.deregister_worker("b")
    assert list(states()) == ["c", "a", "b"]


def test_what_an_earlier_process_of_the_name_began_makes_the_new_one_not_busy(make_task: MakeTask) -> None:
    make_task()
    arrive("one")
    claim_one(worker="one", lease_seconds=30)
    assert states() == {"one": WorkerState.BUSY}
    arrive("one", age=0)
    assert states() == {"one": WorkerState.IDLE}


def test_a_worker_that_comes_back_has_not_left(settings: Any) -> None:
    arrive("one")
    workers.deregister_worker("one")
    arrive("one", age=0)
    assert states() == {"one": WorkerState.IDLE}


def test_a_beat_without_an_engine_leaves_its_columns_empty_and_one_with_it_fills_them() -> None:
    arrive("one")
    row = Worker.objects.get()
    assert (row.device, row.memory_total, row.warm) == ("", None, [])
    workers.record_heartbeat("one", engine=ENGINE, **IDENTITY)
    row = Worker.objects.get()
    assert (row.device, row.device_name, row.memory_used, row.memory_total) == ("cuda:0", "A card", 1, 4)
    assert row.warm == [{"model_id": "demo", "revision": "local"}]


def test_the_dead_hold_no_model(settings: Any) -> None:
    arrive("one")
    workers.record_heartbeat("one", engine=ENGINE, **IDENTITY)
    silence("one", settings.LEASE_SECONDS + 1)
    assert workers.get_workers_by_model() == {}


def test_workers_that_are_long_gone_are_forgotten_but_for_the_paused() -> None:
    for name in ("old", "new", "paused"):
        arrive(name)
    pauses.create_pause(Pause.Scope.WORKER, "paused")
    for name in ("old", "paused"):
        silence(name, workers.PRUNE_AFTER.total_seconds() + 1)
    workers.prune_workers()
    assert set(states()) == {"new", "paused"}


def test_a_command_goes_from_waiting_to_done() -> None:
    arrive("one")
    (ordered,) = workers.enqueue_commands(PRELOAD, "demo", ["one"])
    assert outcomes() == [CommandOutcome.WAITING]
    taken = workers.pop_command("one")
    assert taken == ordered
    assert outcomes() == [CommandOutcome.UNDER_WAY]
    assert workers.pop_command("one") is None
    workers.complete_command(taken)
    assert outcomes() == [CommandOutcome.DONE]


def test_a_command_that_failed_says_why() -> None:
    arrive("one")
    (ordered,) = workers.enqueue_commands(PRELOAD, "demo", ["one"])
    workers.complete_command(ordered, error="It is broken.")
    assert outcomes() == [CommandOutcome.FAILED]
    assert WorkerCommand.objects.get().error == "It is broken."


def test_commands_are_taken_in_their_order_and_only_by_their_worker() -> None:
    arrive("one")
    arrive("two")
    first, second = (workers.enqueue_commands(kind, "demo", ["one"])[0] for kind in (UNLOAD, PRELOAD))
    assert workers.pop_command("two") is None
    assert [workers.pop_command("one"), workers.pop_command("one")] == [first, second]


def test_those_that_cannot_be_reached_get_no_command() -> None:
    for name in ("alive", "dead", "left"):
        arrive(name)
    silence("dead", 1000)
    workers.deregister_worker("left")
    ordered = workers.enqueue_commands(PRELOAD, "demo", ["alive", "dead", "left", "never was"])
    assert [command.worker_id for command in ordered] == ["alive"]


@pytest.mark.parametrize("go", [workers.deregister_worker, lambda name: silence(name, 1000)], ids=["left", "silent"])
def test_what_a_worker_did_not_come_to_is_shown_as_such(go: Callable[[str], None]) -> None:
    arrive("one")
    workers.enqueue_commands(PRELOAD, "demo", ["one"])
    workers.enqueue_commands(UNLOAD, "demo", ["one"])
    workers.pop_command("one")
    go("one")
    assert outcomes() == [CommandOutcome.GONE, CommandOutcome.GONE]


def test_a_worker_that_beats_is_there_though_another_of_its_name_has_left() -> None:
    arrive("one")
    workers.deregister_worker("one")
    assert states() == {"one": WorkerState.STOPPED}
    workers.record_heartbeat("one", engine=None, **IDENTITY)
    assert states() == {"one": WorkerState.IDLE}


def test_a_new_process_does_not_carry_out_what_was_meant_for_the_one_before() -> None:
    arrive("one")
    workers.enqueue_commands(PRELOAD, "demo", ["one"])
    arrive("one", age=0)
    assert workers.pop_command("one") is None
    assert outcomes() == [CommandOutcome.FAILED]
    assert "restarted before it ran" in WorkerCommand.objects.get().error
