"""Tasks that run in one call: each has its own progress, its own end, and none takes another down."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from PIL import Image

from tasks_app import errors
from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import GenerationRequest, Progress
from tasks_app.images import metadata
from tasks_app.images.storage import DurableStorage
from tasks_app.models import DiffusionModel, Status, Task, TaskImage
from tasks_app.queue import dispatch, lifecycle
from tasks_app.worker import engines, saver, shutdown, supervisor
from tasks_app.worker.warm_models import CapacityTracker
from tests.support import tiny
from tests.support.fake import handler as fake
from tests.support.fake import storage as waiting_storage
from tests.support.stack import run_worker, wait_until

MakeTask = Callable[..., Task]
Behave = Callable[[str, fake.Behaviour], str]
Events = Callable[[UUID], list[tuple[str, dict[str, Any]]]]
KEY = "1" * 32


@pytest.fixture(autouse=True)
def _settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MAX_BATCH, settings.HEARTBEAT_SECONDS = 4, 0.05
    monkeypatch.setattr(supervisor, "_capacity_tracker", CapacityTracker())


@pytest.fixture
def engine() -> Any:
    engine: Any = engines.get_handler("text-to-image", "fake")
    engine.calls.clear()
    return engine


@pytest.fixture
def batch(make_task: MakeTask) -> Callable[..., list[Task]]:
    """Return a factory of tasks that run in one call."""

    def make(*prompts: str, **params: Any) -> list[Task]:
        return [
            make_task(params={"prompt": prompt, **params}, seed=number, batch_key=KEY)
            for number, prompt in enumerate(prompts)
        ]

    return make


def row(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def statuses(tasks: list[Task]) -> list[str]:
    return [row(task).status for task in tasks]


def until_stopped(request: GenerationRequest, report: ProgressCallback) -> None:
    """Report the first step for as long as nobody stops the run."""
    waiting = threading.Event()
    while not waiting.wait(0.01):
        report(Progress(phase="denoising", step=1, total_steps=request.steps))


class CancelingStorage(DurableStorage):
    """Stores, and then somebody cancels that task."""

    victim: UUID

    def _save(self, name: str, content: Any) -> str:
        saved = super()._save(name, content)
        if str(self.victim) in name:
            lifecycle.cancel_task(self.victim)
        return saved


def failing(error: Exception) -> fake.Behaviour:
    def fail(request: GenerationRequest, report: ProgressCallback) -> None:
        raise error

    return fail


def test_tasks_run_in_one_call_and_each_gets_its_own_pictures_progress_and_end(
    batch: Callable[..., list[Task]], engine: Any, events: Events
) -> None:
    tasks = batch("one", "two", "three", num_images=1)
    assert supervisor.run_once()
    assert engine.calls == [["one", "two", "three"]]
    for task in tasks:
        after, stream = row(task), events(task.pk)
        assert (after.status, after.step) == (Status.SUCCEEDED, 4)
        assert [data["step"] for _, data in stream if data.get("phase") == "denoising"] == [1, 2, 3, 4]
        assert [data["status"] for event, data in stream if event == "status"] == ["running", "succeeded"]
        with TaskImage.objects.get(task=task).file.open() as file:
            found = metadata.read_metadata(file.read())
        assert (found.params["prompt"], found.params["seed"]) == (task.params["prompt"], task.seed)


@pytest.mark.django_db(transaction=True)
def test_a_cancel_of_one_ends_it_while_the_others_run_on(
    batch: Callable[..., list[Task]], behave: Behave, engine: Any
) -> None:
    tasks = batch(behave("cancels the second", lambda *_: None), "two", "three")
    seen: list[str] = []

    def cancel_and_go_on(request: GenerationRequest, report: ProgressCallback) -> None:
        lifecycle.cancel_task(tasks[1].pk)
        waiting = threading.Event()
        while row(tasks[1]).status != Status.CANCELED:
            report(Progress(phase="denoising", step=1, total_steps=request.steps))
            waiting.wait(0.01)
        seen.extend(statuses(tasks))
        connection.close()

    behave("cancels the second", cancel_and_go_on)
    assert supervisor.run_once()
    assert seen == ["running", "canceled", "running"]
    assert statuses(tasks) == ["succeeded", "canceled", "succeeded"]
    assert not TaskImage.objects.filter(task=tasks[1]).exists()


@pytest.mark.django_db(transaction=True)
def test_when_all_are_canceled_the_call_stops(batch: Callable[..., list[Task]], behave: Behave) -> None:
    tasks = batch("stops", "two")

    def cancel_all(request: GenerationRequest, report: ProgressCallback) -> None:
        for task in tasks:
            lifecycle.cancel_task(task.pk)
        connection.close()
        until_stopped(request, report)

    behave("stops", cancel_all)
    assert supervisor.run_once()
    assert statuses(tasks) == ["canceled", "canceled"]


@pytest.mark.django_db(transaction=True)
def test_one_whose_deadline_passes_is_ended_alone(batch: Callable[..., list[Task]], behave: Behave) -> None:
    tasks = batch("waits for the second", "two")

    def pass_the_deadline(request: GenerationRequest, report: ProgressCallback) -> None:
        Task.objects.filter(pk=tasks[1].pk).update(deadline=Now() - timedelta(seconds=1))
        waiting = threading.Event()
        while row(tasks[1]).status == Status.RUNNING:
            report(Progress(phase="denoising", step=1, total_steps=request.steps))
            waiting.wait(0.01)
        connection.close()

    behave("waits for the second", pass_the_deadline)
    assert supervisor.run_once()
    assert [(row(task).status, row(task).error_code) for task in tasks] == [("succeeded", ""), ("failed", "timed_out")]


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_is_drained_is_given_back_whole(batch: Callable[..., list[Task]], behave: Behave) -> None:
    tasks = batch("drains", "two")

    def drain(request: GenerationRequest, report: ProgressCallback) -> None:
        shutdown.request_shutdown(0)
        until_stopped(request, report)

    behave("drains", drain)
    try:
        assert supervisor.run_once()
    finally:
        shutdown.requested.clear()
        shutdown.deadline_passed.clear()
    assert [(row(task).status, row(task).lost_workers, row(task).batch_key) for task in tasks] == [
        ("queued", 0, KEY)
    ] * 2


def test_a_bad_task_takes_no_other_down_with_it(
    batch: Callable[..., list[Task]], behave: Behave, engine: Any, events: Events
) -> None:
    tasks = batch("one", behave("bad", failing(ValueError("no"))), "three")
    while supervisor.run_once():
        pass
    assert engine.calls == [["one", "bad", "three"], ["one"], ["bad"], ["three"]]
    assert [(row(task).status, row(task).attempt, row(task).lost_workers) for task in tasks] == [
        ("succeeded", 2, 0),
        ("failed", 2, 0),
        ("succeeded", 2, 0),
    ]
    told = [data["status"] for event, data in events(tasks[0].pk) if event == "status"]
    assert told == ["running", "queued", "running", "succeeded"]


def test_too_little_memory_lowers_how_many_run_together_until_one_alone_fails_of_it(
    batch: Callable[..., list[Task]], behave: Behave, engine: Any
) -> None:
    tasks = batch("one", behave("large", failing(errors.OutOfMemoryError("Full."))), "three", "four", "five")
    while supervisor.run_once():
        pass
    assert [len(call) for call in engine.calls] == [4, 2, 1, 1, 1, 1, 1]
    assert [row(task).error_code for task in tasks] == ["", "out_of_memory", "", "", ""]


@pytest.mark.django_db(transaction=True)
def test_one_that_is_canceled_while_pictures_are_stored_is_canceled_alone(
    batch: Callable[..., list[Task]], settings: Any, events: Events
) -> None:
    tasks = batch("one", "two", "three")
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "tests.integration.worker.test_batches.CancelingStorage"},
    }
    CancelingStorage.victim = tasks[1].pk
    assert supervisor.run_once()
    assert statuses(tasks) == ["succeeded", "canceled", "succeeded"]
    told = [[data["status"] for event, data in events(task.pk) if event == "status"] for task in tasks]
    assert told == [["running", "succeeded"], ["running", "canceled"], ["running", "succeeded"]]
    assert not default_storage.exists(f"tasks/{tasks[1].pk}/1-0.png")
    assert not TaskImage.objects.filter(task=tasks[1]).exists()


@pytest.mark.django_db(transaction=True)
def test_a_batch_ends_in_one_statement(batch: Callable[..., list[Task]]) -> None:
    tasks = batch("one", "two", "three")
    with CaptureQueriesContext(connection) as captured:
        assert supervisor.run_once()
    ends = [query["sql"] for query in captured if "'succeeded'" in query["sql"] and "UPDATE" in query["sql"]]
    assert len(ends) == 1
    assert statuses(tasks) == ["succeeded"] * 3


def test_a_failing_storage_fails_the_task_whose_picture_it_refuses(
    batch: Callable[..., list[Task]], settings: Any, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path
    tasks = batch("one", "two")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / str(tasks[0].pk)).write_text("in the way")
    assert supervisor.run_once()
    assert [(row(task).status, row(task).error_code) for task in tasks] == [
        ("failed", "storage_failed"),
        ("succeeded", ""),
    ]


@pytest.mark.parametrize("why", ["by the settings", "by the model's row", "by the memory", "and takes no other"])
def test_a_call_that_is_full_waits_for_no_company(
    batch: Callable[..., list[Task]], settings: Any, engine: Any, why: str
) -> None:
    settings.BATCH_WAIT_MS = 3_600_000
    if "settings" in why:
        settings.MAX_BATCH = 2
    elif "row" in why:
        DiffusionModel.objects.update_or_create(model_id="demo", defaults={"max_batch": 2})
    elif "memory" in why:
        supervisor._capacity_tracker.record_oom("demo", 4)
    tasks = batch("one", "two", "three")
    if "no other" in why:
        Task.objects.update(batch_key="")
    assert supervisor.run_once()
    assert engine.calls == ([["one"]] if "no other" in why else [["one", "two"]])
    assert row(tasks[2]).status == Status.QUEUED


@pytest.mark.usefixtures("undrained")
@pytest.mark.django_db(transaction=True)
def test_company_that_comes_while_a_worker_waits_runs_with_it(
    batch: Callable[..., list[Task]], settings: Any, engine: Any
) -> None:
    settings.BATCH_WAIT_MS = 3_600_000
    batch("one")

    def run() -> None:
        supervisor.run_once()
        connection.close()

    running = threading.Thread(target=run)
    running.start()
    wait_until(lambda: Task.objects.filter(status=Status.RUNNING).count(), bool)
    batch("two", "three")
    shutdown.requested.set()  # nothing else ends the wait
    running.join()
    assert engine.calls == [["one", "two", "three"]]


@pytest.mark.django_db(transaction=True)
def test_the_next_call_begins_while_what_the_last_one_made_is_being_saved(
    make_task: MakeTask, behave: Behave, settings: Any, tmp_path: Path
) -> None:
    local = {**settings.STORAGES["default"], "BACKEND": "tests.support.fake.storage.BlockingStorage"}
    settings.MEDIA_ROOT, settings.STORAGES = tmp_path, {**settings.STORAGES, "default": local}
    seen: list[tuple[bool, str]] = []
    first = make_task()
    second = make_task(params={"prompt": behave("second", lambda *_: look())})

    def look() -> None:
        seen.append((waiting_storage.save_started.wait(timeout=10), row(first).status))
        connection.close()
        waiting_storage.may_save.set()

    waiting_storage.may_save.clear()
    waiting_storage.save_started.clear()
    try:
        supervisor.run_until_idle()
    finally:
        waiting_storage.may_save.set()
    saver.flush_pending()
    assert seen == [(True, "running")]
    assert statuses([first, second]) == ["succeeded", "succeeded"]


@pytest.mark.django_db(transaction=True)
def test_a_device_that_one_of_them_loses_costs_the_others_nothing_but_time(make_task: MakeTask, tmp_path: Path) -> None:
    with run_worker(tmp_path) as process:
        # With this one its first sweep is over, which may lock one of those that are to go together, as it is claimed.
        before = make_task()
        dispatch.send_wake_up(before.pk)
        wait_until(lambda: row(before).status, lambda status: status == "succeeded")
        with transaction.atomic():
            tasks = [make_task(params={"prompt": prompt}, batch_key=KEY) for prompt in ("one", "lose", "three")]
        dispatch.send_wake_up(tasks[0].pk)
        assert process.wait(timeout=30) == shutdown.EXIT_DEVICE_LOST
    assert statuses(tasks) == ["queued"] * 3  # together they lost it, and the one does so alone
    with run_worker(tmp_path) as process:
        dispatch.send_wake_up(tasks[0].pk)
        assert process.wait(timeout=30) == shutdown.EXIT_DEVICE_LOST
    with run_worker(tmp_path):
        dispatch.send_wake_up(tasks[0].pk)
        wait_until(lambda: statuses(tasks), lambda now: now == ["succeeded", "failed", "succeeded"])
    assert {row(task).lost_workers for task in tasks} == {0}


def test_pictures_made_together_are_those_made_alone(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    tiny.save_sdxl(tmp_path / "xl")
    settings.PROVIDERS = {"diffusers": {"models_dir": tmp_path, "hub_cache": tmp_path, "device": "cpu"}}
    monkeypatch.setattr(engines, "_handlers", {})
    made: dict[str, list[Any]] = {"": [], KEY: []}
    for batch_key in made:
        for number, prompt in enumerate(("a house", "the sea at night")):
            params = {"prompt": prompt, "num_images": 2, "negative_prompt": "rain"}
            make_task(provider="diffusers", model_id="xl", params=params, seed=9 * number, batch_key=batch_key)
    while supervisor.run_once():
        pass
    for image in TaskImage.objects.order_by("task__created_at", "index"):
        made[image.task.batch_key].append(pixels(image))
    assert len(made[""]) == len(made[KEY]) == 4
    assert min(psnr(*pair) for pair in zip(made[""], made[KEY], strict=True)) >= 40
    assert psnr(made[""][0], made[""][1]) < 40


def pixels(image: TaskImage) -> Any:
    with image.file.open() as file, Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"), dtype=float)


def psnr(one: Any, other: Any) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    error = float(np.mean((one - other) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))
