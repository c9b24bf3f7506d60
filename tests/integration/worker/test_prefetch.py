"""The next task, claimed while the last one decodes: when it begins, and what becomes of it when it never does."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import GenerationRequest, Progress
from tasks_app.models import Status, Task
from tasks_app.queue import dispatch, lifecycle
from tasks_app.worker import engines, shutdown, supervisor
from tasks_app.worker import saver as saver_module
from tests.support.fake import handler as fake
from tests.support.fake import storage as waiting_storage
from tests.support.stack import run_worker, wait_until

# Longer than all tests take: its timer would hurry the tasks of a later one in this process.
GRACE_SECONDS = 86_400.0
MakeTask = Callable[..., Task]
Behave = Callable[[str, fake.Behaviour], str]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("undrained")]


@pytest.fixture(autouse=True)
def _fast_heartbeat(settings: Any) -> None:
    settings.HEARTBEAT_SECONDS = 0.05


def row(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def run_all() -> None:
    supervisor.run_until_idle()
    saver_module.flush_pending()


def decoding(call: Callable[[], object]) -> fake.Behaviour:
    """Return what a run does that calls this while it decodes, from the inference thread."""

    def decode(request: GenerationRequest, report: ProgressCallback) -> None:
        report(Progress(phase="decoding", step=request.steps, total_steps=request.steps))
        try:
            call()
        finally:
            connection.close()

    return decode


def until_claimed(task: Task) -> Task:
    return wait_until(lambda: row(task), lambda now: now.status == Status.RUNNING, patience=10)


def until_beaten(task: Task) -> None:
    lease = row(task).lease_until
    wait_until(lambda: row(task).lease_until, lambda now: now != lease, patience=10)


def test_the_next_task_is_claimed_while_the_last_one_decodes(make_task: MakeTask, behave: Behave) -> None:
    seen: list[str] = []
    first = make_task(params={"prompt": behave("first", decoding(lambda: seen.append(until_claimed(second).status)))})
    second = make_task()
    run_all()
    assert seen == [Status.RUNNING]
    assert [row(task).status for task in (first, second)] == [Status.SUCCEEDED] * 2


def test_what_is_claimed_ahead_waits_for_company_no_longer_than_the_last_one_decodes(
    make_task: MakeTask, behave: Behave, settings: Any
) -> None:
    settings.MAX_BATCH, settings.BATCH_WAIT_MS = 4, 3_600_000
    engine: Any = engines.get_handler("text-to-image", "fake")

    def send_more() -> None:
        until_claimed(second)
        make_task(params={"prompt": "third"}, batch_key="1" * 32)

    make_task(params={"prompt": behave("first", decoding(send_more))})
    second = make_task(params={"prompt": "second"}, batch_key="1" * 32)
    run_all()
    assert engine.calls[-2:] == [["first"], ["second", "third"]]


def test_nothing_is_claimed_ahead_beside_what_may_kill_the_worker(make_task: MakeTask, behave: Behave) -> None:
    seen: list[str] = []

    def look() -> None:
        # What is claimed ahead is claimed before the beat after the one that tells of the phase.
        wait_until(lambda: row(first).phase, lambda phase: phase == "decoding", patience=10)
        until_beaten(first)
        seen.append(row(second).status)

    first = make_task(params={"prompt": behave("first", decoding(look))}, attempt=1, lost_workers=1)
    second = make_task()
    run_all()
    assert seen == [Status.QUEUED]


def test_after_an_error_the_next_begins_only_when_the_task_of_the_first_has_ended(
    make_task: MakeTask, behave: Behave
) -> None:
    seen: list[str] = []

    def fail() -> None:
        until_claimed(second)
        seen.append(row(first).status)
        raise RuntimeError("as the test wants it")

    def look(request: GenerationRequest, report: ProgressCallback) -> None:
        seen.append(row(first).status)
        connection.close()

    first = make_task(params={"prompt": behave("first", decoding(fail))})
    second = make_task(params={"prompt": behave("second", look)})
    run_all()
    assert seen == [Status.RUNNING, Status.FAILED]
    assert row(second).status == Status.SUCCEEDED


def test_what_may_have_killed_a_worker_begins_only_when_all_that_was_made_is_saved(
    make_task: MakeTask, behave: Behave, settings: Any, tmp_path: Path
) -> None:
    local = {**settings.STORAGES["default"], "BACKEND": "tests.support.fake.storage.BlockingStorage"}
    settings.MEDIA_ROOT, settings.STORAGES = tmp_path, {**settings.STORAGES, "default": local}
    seen: list[str] = []

    def look(request: GenerationRequest, report: ProgressCallback) -> None:
        seen.append(row(first).status)
        connection.close()

    def let_it_be_saved() -> None:
        assert waiting_storage.save_started.wait(timeout=10)
        until_beaten(second)
        connection.close()
        waiting_storage.may_save.set()

    first = make_task(params={"prompt": behave("first", decoding(lambda: until_claimed(second)))})
    second = make_task(params={"prompt": behave("second", look)}, attempt=1, lost_workers=1)
    waiting_storage.may_save.clear()
    waiting_storage.save_started.clear()
    saver = threading.Thread(target=let_it_be_saved)
    saver.start()
    try:
        run_all()
    finally:
        waiting_storage.may_save.set()
        saver.join()
    assert seen == [Status.SUCCEEDED]


def test_a_cancel_of_what_is_claimed_ahead_keeps_it_from_being_made(make_task: MakeTask, behave: Behave) -> None:
    made: list[str] = []

    def cancel() -> None:
        until_claimed(second)
        assert lifecycle.cancel_task(second.pk) == Status.RUNNING
        until_beaten(second)
        # The row may be read before the worker has read the answer of its beat, but not before that of an earlier one.
        until_beaten(first)

    def note(request: GenerationRequest, report: ProgressCallback) -> None:
        report(Progress(phase="loading", total_steps=1))
        made.append(request.prompt)

    first = make_task(params={"prompt": behave("first", decoding(cancel))})
    second = make_task(params={"prompt": behave("second", note)})
    run_all()
    assert (row(second).status, made) == (Status.CANCELED, [])


def test_a_drain_gives_back_at_once_what_is_claimed_ahead_and_lets_the_first_finish(
    make_task: MakeTask, behave: Behave
) -> None:
    given_back: list[Task] = []

    def drain() -> None:
        until_claimed(second)
        shutdown.request_shutdown(GRACE_SECONDS)
        given_back.append(wait_until(lambda: row(second), lambda now: now.status == Status.QUEUED, patience=10))

    first = make_task(params={"prompt": behave("first", decoding(drain))})
    second = make_task()
    run_all()
    assert [(task.lost_workers, task.worker) for task in given_back] == [(0, "")]
    assert (row(first).status, row(second).status) == (Status.SUCCEEDED, Status.QUEUED)


def test_a_hung_decode_gives_back_what_is_claimed_ahead(make_task: MakeTask, tmp_path: Path) -> None:
    def attempt(task: Task) -> int:
        return row(task).attempt

    tasks = [make_task(params={"prompt": "stall"}) for _ in range(2)]
    with run_worker(tmp_path, STEP_TIMEOUT_SECONDS="1") as process:
        dispatch.send_wake_up(tasks[0].pk)
        for task in tasks:
            wait_until(partial(attempt, task), bool)
        assert process.wait(timeout=60) == shutdown.EXIT_STALLED
    # The second is the first to be claimed where the worker's sweeper has the first locked in that moment.
    after = {(now.status, now.attempt, now.lost_workers) for now in map(row, tasks)}
    assert after == {(Status.RUNNING, 1, 0), (Status.QUEUED, 1, 0)}
