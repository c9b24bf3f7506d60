"""One claimed task, supervised: with the fake provider, on real PostgreSQL and Redis."""

import gc
import hashlib
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models.functions import Now
from PIL import Image
from structlog.contextvars import get_contextvars

from tasks_app import errors
from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import GenerationRequest, LoadOptions, Progress
from tasks_app.events import progress
from tasks_app.images import metadata
from tasks_app.images.metadata import containers
from tasks_app.models import DiffusionModel, Status, Task, TaskImage
from tasks_app.queue import lifecycle
from tasks_app.worker import shutdown, supervisor
from tasks_app.worker.batch import ActiveRun, Batch
from tests.support.claims import claim_one
from tests.support.fake import handler as fake
from tests.support.stack import wait_until

MakeTask = Callable[..., Task]
Behave = Callable[[str, Callable[[GenerationRequest, ProgressCallback], None]], str]
pytestmark = pytest.mark.usefixtures("undrained")


@pytest.fixture(autouse=True)
def _fast_heartbeat(settings: Any) -> None:
    settings.HEARTBEAT_SECONDS = 0.05


def ended(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def until_stopped(request: GenerationRequest, report: ProgressCallback) -> None:
    """Report the first step for as long as nobody stops the run."""
    waiting = threading.Event()
    while not waiting.wait(0.01):
        report(Progress(phase="denoising", step=1, total_steps=request.steps))


def test_a_run_ends_with_pictures_in_the_storage_whose_hashes_match(make_task: MakeTask) -> None:
    task = make_task(params={"num_images": 2})
    assert supervisor.run_once()
    after = ended(task)
    assert (after.status, after.revision, after.step) == (Status.SUCCEEDED, "fake", 4)
    assert {"denoising", "saving"} == after.timings.keys()
    for index, image in enumerate(after.images.all()):
        with image.file.open() as file:
            assert hashlib.sha256(file.read()).hexdigest() == image.sha256
        assert (image.seed, image.file.name) == (7 + index, f"tasks/{task.pk}/1-{index}.png")


def test_pictures_tell_what_they_were_made_of_but_neither_task_nor_time(make_task: MakeTask) -> None:
    contents = []
    for _ in range(2):
        task = make_task(params={"output_format": "webp"}, requested_model_id="alias")
        supervisor.run_once()
        with TaskImage.objects.get(task=task).file.open() as file:
            contents.append(file.read())
    found = metadata.read_metadata(contents[0])
    assert found.params == {
        **task.params,
        "provider": "fake",
        "model_id": "alias",
        "seed": 7,
        "width": 32,
        "height": 32,
    }
    texts = containers.read_texts(contents[0], {metadata.OWN_CHUNK})
    told = json.loads(texts[metadata.OWN_CHUNK])
    assert told["model"] == {"id": "demo", "revision": "fake"}
    assert told["made_by"] == {
        "diffusers-handler": settings.VERSION,
        "device": "fake",
        "dtype": "float32",
        "batch_size": "1",
    }
    assert contents[0] == contents[1]


def test_every_step_reaches_redis_and_the_statuses_frame_them(
    make_task: MakeTask, events: Callable[..., list[tuple[str, dict[str, Any]]]]
) -> None:
    task = make_task(params={"steps": 50})
    supervisor.run_once()
    stream = events(task.pk)
    assert [data["step"] for event, data in stream if data.get("phase") == "denoising"] == list(range(1, 51))
    statuses = [data["status"] for event, data in stream if event == "status"]
    assert statuses == ["running", "succeeded"]
    assert stream[0][0] == stream[-1][0] == "status"
    assert progress._read_latest([task.pk])[task.pk]["phase"] == "saving"


@pytest.mark.django_db(transaction=True)
def test_what_the_inference_thread_logs_belongs_to_the_task_and_nothing_afterwards_does(
    make_task: MakeTask, behave: Behave
) -> None:
    seen: list[dict[str, Any]] = []
    task = make_task(params={"prompt": behave("look", lambda *_: seen.append(get_contextvars()))})
    assert supervisor.run_once()
    assert seen == [{"task": str(task.pk), "attempt": 1}]
    assert supervisor.run_in_inference_thread(get_contextvars).result() == get_contextvars() == {}


def test_without_a_task_nothing_runs(db: None) -> None:
    assert not supervisor.run_once()


@contextmanager
def sweeping() -> Iterator[list[Any]]:
    """Expire leases all the time, from a thread with a connection of its own; yield what each sweep moved."""
    done, swept = threading.Event(), []

    def sweep() -> None:
        while not done.wait(0.02):
            swept.append(lifecycle.expire_leases())
        connection.close()

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        yield swept
    finally:
        done.set()
        thread.join()


def run_with(make_task: MakeTask, act: Callable[[Task], object]) -> Task:
    """Run a task whose inference thread acts on its own row after the first step, then goes on until it is stopped."""
    task = make_task(params={"prompt": "act"})

    def behaviour(request: GenerationRequest, report: ProgressCallback) -> None:
        report(Progress(phase="denoising", step=1, total_steps=request.steps))
        act(task)
        connection.close()
        until_stopped(request, report)

    fake.behaviours["act"] = behaviour
    try:
        assert supervisor.run_once()
    finally:
        fake.behaviours.clear()
    return Task.objects.get(pk=task.pk)


@pytest.mark.django_db(transaction=True)
def test_a_step_that_blocks_for_two_lease_times_keeps_its_lease(
    make_task: MakeTask, behave: Behave, settings: Any
) -> None:
    settings.LEASE_SECONDS = 3  # so long the machine may be busy with something else

    def block(request: GenerationRequest, report: ProgressCallback) -> None:
        report(Progress(phase="denoising", step=1, total_steps=request.steps))
        first = ended(task).lease_until
        assert first is not None
        outlived = first + timedelta(seconds=2 * settings.LEASE_SECONDS)
        wait_until(lambda: ended(task).lease_until, lambda lease: lease is None or lease > outlived)
        wait_until(lambda: len(swept), lambda count: count > 10)
        connection.close()

    task = make_task(params={"prompt": behave("block", block)})
    with sweeping() as swept:
        supervisor.run_once()
    assert not any(swept)
    after = Task.objects.get(pk=task.pk)
    assert (after.status, after.attempt, after.lost_workers) == (Status.SUCCEEDED, 1, 0)


@pytest.mark.django_db(transaction=True)
def test_without_heartbeats_the_same_step_would_lose_its_lease(
    make_task: MakeTask, behave: Behave, settings: Any
) -> None:
    settings.LEASE_SECONDS, settings.HEARTBEAT_SECONDS = 0.2, 60
    lost = threading.Event()

    def block(request: GenerationRequest, report: ProgressCallback) -> None:
        assert lost.wait(30)

    def run_and_disconnect() -> None:
        supervisor.run_once()
        connection.close()

    task = make_task(params={"prompt": behave("block", block)})
    thread = threading.Thread(target=run_and_disconnect)
    with sweeping() as swept:
        thread.start()
        while not any(swept):
            assert thread.is_alive()
            threading.Event().wait(0.01)
        lost.set()
        thread.join()
    after = Task.objects.get(pk=task.pk)
    assert (after.status, after.lost_workers) == (Status.QUEUED, 1)
    assert not default_storage.exists(f"tasks/{task.pk}/1-0.png")


@pytest.mark.django_db(transaction=True)
def test_a_cancel_stops_the_run_at_its_next_step(make_task: MakeTask) -> None:
    after = run_with(make_task, lambda task: lifecycle.cancel_task(task.pk))
    assert (after.status, after.error_code) == (Status.CANCELED, "canceled")
    assert not after.images.exists()


@pytest.mark.django_db(transaction=True)
def test_a_cancel_after_the_last_step_is_honoured_and_leaves_no_file(make_task: MakeTask, behave: Behave) -> None:
    task = make_task(params={"prompt": "late"})

    def cancel_and_return(request: GenerationRequest, report: ProgressCallback) -> None:
        lifecycle.cancel_task(task.pk)
        connection.close()

    behave("late", cancel_and_return)
    supervisor.run_once()
    assert Task.objects.get(pk=task.pk).status == Status.CANCELED
    assert not default_storage.exists(f"tasks/{task.pk}/1-0.png")


@pytest.mark.django_db(transaction=True)
def test_a_run_whose_deadline_passes_is_stopped(make_task: MakeTask) -> None:
    past = Now() - timedelta(seconds=1)
    after = run_with(make_task, lambda task: Task.objects.filter(pk=task.pk).update(deadline=past))
    assert (after.status, after.error_code) == (Status.FAILED, "timed_out")


@pytest.mark.django_db(transaction=True)
def test_a_run_that_lost_its_claim_stops_and_changes_nothing(make_task: MakeTask) -> None:
    def steal(task: Task) -> None:
        with transaction.atomic():  # no heartbeat in between
            Task.objects.filter(pk=task.pk).update(lease_until=Now() - timedelta(seconds=1))
            lifecycle.expire_leases()
            claim_one(worker="another:2", lease_seconds=30)

    after = run_with(make_task, steal)
    assert (after.status, after.worker, after.attempt, after.step) == (Status.RUNNING, "another:2", 2, 0)


@pytest.mark.django_db(transaction=True)
def test_a_drained_run_is_given_back_without_a_loss_and_nothing_more_is_claimed(make_task: MakeTask) -> None:
    after = run_with(make_task, lambda task: shutdown.request_shutdown(0))
    assert (after.status, after.attempt, after.lost_workers) == (Status.QUEUED, 1, 0)
    assert not supervisor.run_once()


def failing(error: Exception) -> Callable[[GenerationRequest, ProgressCallback], None]:
    def fail(request: GenerationRequest, report: ProgressCallback) -> None:
        raise error

    return fail


@contextmanager
def waiting_behind_a_call(task: Task) -> Iterator[None]:
    """Let the task be claimed while something else, as a preload, has the inference thread."""
    free = threading.Event()
    supervisor.run_in_inference_thread(free.wait)
    running = threading.Thread(target=in_its_own_connection, args=[supervisor.run_once])
    running.start()
    try:
        wait_until(lambda: ended(task).status, lambda status: status == Status.RUNNING)
        yield
    finally:
        free.set()
        running.join()


def in_its_own_connection(call: Callable[[], object]) -> None:
    try:
        call()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_cancel_does_not_wait_for_a_run_that_has_not_begun(make_task: MakeTask) -> None:
    task = make_task()
    with waiting_behind_a_call(task):
        lifecycle.cancel_task(task.pk)
        wait_until(lambda: ended(task).status, lambda status: status == Status.CANCELED)


@pytest.mark.django_db(transaction=True)
def test_a_drain_gives_a_run_back_that_has_not_begun(make_task: MakeTask) -> None:
    task = make_task()
    with waiting_behind_a_call(task):
        shutdown.request_shutdown(0)
        wait_until(lambda: ended(task).status, lambda status: status == Status.QUEUED)
    assert ended(task).lost_workers == 0


def test_an_error_of_ours_fails_the_task_with_its_code_and_message(make_task: MakeTask, behave: Behave) -> None:
    error = errors.ModelUnavailableError("The model is not here.")
    task = make_task(params={"prompt": behave("fail", failing(error))})
    supervisor.run_once()
    after = ended(task)
    assert (after.status, after.error_code) == (Status.FAILED, "model_unavailable")
    assert after.error_message == "The model is not here."
    assert "ModelUnavailableError" in after.error_traceback


def test_an_unknown_error_tells_people_its_type_only(make_task: MakeTask, behave: Behave) -> None:
    task = make_task(params={"prompt": behave("fail", failing(RuntimeError("/secret/path")))})
    supervisor.run_once()
    after = ended(task)
    assert (after.status, after.error_code) == (Status.FAILED, "internal")
    assert after.error_message == "The task failed with an unexpected RuntimeError."
    assert "/secret/path" in after.error_traceback


def test_an_error_that_postgresql_can_not_store_as_it_is_fails_the_task_all_the_same(
    make_task: MakeTask, behave: Behave
) -> None:
    error = errors.ModelLoadError("a \0 and a \udcff, and the token hf_abcdefghijklmnop")
    task = make_task(params={"prompt": behave("fail", failing(error))})
    supervisor.run_once()
    assert ended(task).error_message == "a \\0 and a \\udcff, and the token hf_…"
    assert "hf_abc" not in ended(task).error_traceback


def test_a_run_without_pictures_fails(make_task: MakeTask) -> None:
    task = make_task(params={"num_images": 0})
    supervisor.run_once()
    assert (ended(task).status, ended(task).error_code) == (Status.FAILED, "internal")


def test_what_a_failed_run_held_is_free_at_once(make_task: MakeTask, behave: Behave) -> None:
    held: list[weakref.ref[Any]] = []

    def fail_holding(request: GenerationRequest, report: ProgressCallback) -> None:
        latents = {"latents"}
        held.append(weakref.ref(latents))
        raise RuntimeError

    make_task(params={"prompt": behave("fail", fail_holding)})
    gc.disable()
    try:
        supervisor.run_once()
        assert held[0]() is None
    finally:
        gc.enable()


def test_after_a_failed_run_the_next_one_runs(make_task: MakeTask, behave: Behave) -> None:
    make_task(params={"prompt": behave("fail", failing(RuntimeError()))})
    fine = make_task()
    supervisor.run_once()
    supervisor.run_once()
    assert ended(fine).status == Status.SUCCEEDED


def test_a_storage_that_refuses_fails_the_task_retryably(make_task: MakeTask, settings: Any, tmp_path: Any) -> None:
    in_the_way = tmp_path / "media"
    in_the_way.write_text("a file where the storage needs a folder")
    settings.MEDIA_ROOT = in_the_way
    task = make_task()
    supervisor.run_once()
    after = ended(task)
    assert (after.status, after.error_code) == (Status.FAILED, "storage_failed")
    assert errors.RETRYABLE[after.error_code]
    assert str(tmp_path) not in after.error_message


def test_the_remaining_time_follows_the_pace(make_task: MakeTask) -> None:
    run = Batch([ActiveRun(make_task(params={"steps": 10}))], LoadOptions(), threading.Event())
    run.latest_progress = Progress(phase="denoising", step=1, total_steps=10)
    assert run.estimate_eta() is None
    assert run._first_step is not None
    run._first_step = run._first_step[0] - 200, 1
    run.latest_progress = Progress(phase="denoising", step=5, total_steps=10)
    assert run.estimate_eta() == pytest.approx(250, abs=10)


def test_the_latest_preview_is_published_and_the_ones_that_wait_are_not(claimed: MakeTask, behave: Behave) -> None:
    drawn: list[int] = []
    shown = threading.Event()

    def show(request: GenerationRequest, report: ProgressCallback) -> None:
        for step in range(1, 4):
            report(Progress(phase="denoising", step=step, total_steps=4, preview=partial(draw, step)))
        assert shown.wait(10)

    def draw(step: int, index: int) -> Image.Image:
        drawn.append(step)
        if step == 3:
            shown.set()
        return Image.new("RGB", (8, 4), (step, 0, 0))

    task = claimed(params={"prompt": behave("a preview", show)})
    supervisor.run_tasks([task])
    trail = progress.read_streams([task.pk])[task.pk]
    assert trail.preview is not None
    assert drawn[-1] == 3
    data = trail.preview.data
    assert (data["attempt"], data["step"], data["total_steps"]) == (1, drawn[-1], 4)
    assert (data["width"], data["height"], data["src"][:23]) == (8, 4, "data:image/webp;base64,")


def test_how_a_model_is_loaded_is_its_rows_to_say(claimed: MakeTask, behave: Behave) -> None:
    seen: list[LoadOptions] = []
    DiffusionModel.objects.filter(model_id="demo").update(dtype="bfloat16", offload="model")
    supervisor.run_tasks(
        [claimed(params={"prompt": behave("options", lambda request, report: seen.append(request.options))})]
    )
    assert seen == [LoadOptions(dtype="bfloat16", offload="model")]
