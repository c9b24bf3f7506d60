"""The client without asyncio against the real web server."""

import io
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from diffusers_handler_client import ApiError, Client, Event, TaskFailed, WaitTimeout
from django.contrib.auth.models import User
from PIL import Image

from tasks_app.access import api_keys
from tasks_app.models import Scope, Task
from tasks_app.queue import lifecycle
from tests.chaos.proxy import Proxy, Rule
from tests.e2e.client.conftest import port_of, row
from tests.support.acting import ScriptedWorker
from tests.support.stack import wait_until

MakeTask = Callable[..., Task]
pytestmark = [pytest.mark.timeout(60), pytest.mark.django_db(transaction=True)]


@contextmanager
def heard(client: Client, task: str) -> Iterator["queue.Queue[Event | None]"]:
    """Follow a task in a thread; None comes after its last event."""
    events: queue.Queue[Event | None] = queue.Queue()

    def listen() -> None:
        for event in client.stream(task):
            events.put(event)
        events.put(None)

    thread = threading.Thread(target=listen)
    thread.start()
    yield events
    thread.join(30)
    assert not thread.is_alive()


def next_step(events: "queue.Queue[Event | None]", step: int) -> None:
    """Wait for a step."""
    wait_until(
        lambda: events.get(timeout=20),
        lambda event: event is not None and event.progress is not None and event.progress.step == step,
    )


def rest(events: "queue.Queue[Event | None]") -> list[Event]:
    """Return all events to the last."""
    return list(iter(lambda: events.get(timeout=20), None))


def test_a_submission_says_what_is_given_and_leaves_the_rest_to_the_service(client: Client) -> None:
    options: dict[str, Any] = {
        "negative_prompt": "blue",
        "steps": 4,
        "guidance_scale": 3.5,
        "seed": 7,
        "num_images": 2,
        "output_format": "webp",
        "batchable": True,
    }
    task = client.submit("a house", model="demo", width=64, height=32, scheduler="ddim", priority=3, **options)
    assert (task.status, task.priority, task.seed, task.model) == ("queued", 3, 7, "demo")
    assert row(task).params == {
        "prompt": "a house",
        "negative_prompt": "blue",
        "steps": 4,
        "guidance_scale": 3.5,
        "width": 64,
        "height": 32,
        "num_images": 2,
        "scheduler": "ddim",
        "loras": [],
        "embeddings": [],
        "output_format": "webp",
    }
    assert row(task).batch_key
    plain = client.submit("a house", model="demo", steps=None)
    assert (plain.params["steps"], plain.params["num_images"], plain.priority) == (25, 1, 0)


def test_a_picture_is_uploaded_and_begun_with(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "picture.jpg")
    upload = client.upload(tmp_path / "picture.jpg")
    assert (upload.width, upload.height) == (64, 48)
    task = client.submit("a house", model="demo", image=upload, strength=0.5)
    assert (task.raw["task_type"], task.params["strength"], task.params["width"]) == ("image-to-image", 0.5, 64)
    assert task.params["image"] == upload.id
    unknown = "runwayml/stable-diffusion-v1-5"  # nobody here knows what it is for
    mask = client.upload((tmp_path / "picture.jpg").read_bytes())
    task = client.submit("a house", model=unknown, image=upload.id, mask=mask)
    assert (task.raw["task_type"], task.params["mask"]) == ("inpainting", mask.id)
    with pytest.raises(ApiError) as refused:
        client.upload(b"text")
    assert refused.value.code == "invalid_image"


def test_a_submission_whose_answer_got_lost_is_one_task(url: str, db: None) -> None:
    proxy = Proxy(port_of(url))
    # Head and body may come one after the other: the answer is to the body.
    lost = proxy.add_rule(Rule(requests=(b"POST /task", b"prompt")))
    with closing(proxy), Client(f"http://127.0.0.1:{proxy.port}") as client:
        task = client.submit("a house", model="demo")
    assert lost.fired.is_set()
    assert [str(row.pk) for row in Task.objects.all()] == [task.id]


def test_another_submission_under_the_same_key_is_refused(client: Client) -> None:
    first = client.submit("a house", model="demo", seed=1, idempotency_key="mine")
    assert client.submit("a house", model="demo", seed=1, idempotency_key="mine").id == first.id
    with pytest.raises(ApiError) as refused:
        client.submit("another house", model="demo", idempotency_key="mine")
    assert refused.value.status == 422


def test_with_wait_the_answer_is_the_end(client: Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(client.submit, "a house", model="demo", wait=30)
        task = wait_until(Task.objects.first, bool)
        assert task is not None
        ScriptedWorker(task).succeed_task()
        assert waited.result(20).succeeded


def test_a_key_sees_its_own_tasks_and_a_wrong_one_is_refused(url: str, make_task: MakeTask, admin_user: User) -> None:
    other = make_task()
    _, token = api_keys.create_api_key(user=admin_user, name="tests", scopes=[Scope.READ, Scope.SUBMIT])
    with Client(url, token) as client:
        task = client.submit("a house", model="demo")
        assert [listed.id for listed in client.list()] == [task.id]
        with pytest.raises(ApiError) as foreign:
            client.get(str(other.pk))
        assert foreign.value.code == "not_found"
    with Client(url, "dh_wrong") as client, pytest.raises(ApiError) as refused:
        client.get(task)
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")


def test_a_refusal_names_every_bad_field(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.submit("", model="demo", steps=0, params={"sampler": "x"})
    assert (refused.value.status, refused.value.code) == (400, "invalid_params")
    assert {field.path for field in refused.value.fields} == {"params.prompt", "params.steps", "params.sampler"}
    assert all(field.message for field in refused.value.fields)
    assert not Task.objects.exists()


def test_an_unknown_task_is_not_found(client: Client) -> None:
    for ask in (client.get, client.cancel, client.image, lambda task: next(client.stream(task))):
        with pytest.raises(ApiError) as missing:
            ask(str(uuid4()))
        assert (missing.value.status, missing.value.code) == (404, "not_found")


def test_what_succeeded_is_reproduced_and_nothing_else(client: Client, make_task: MakeTask) -> None:
    task = make_task()
    with pytest.raises(ApiError) as refusal:
        client.reproduce(str(task.pk))
    assert (refusal.value.status, refusal.value.code) == (409, "not_reproducible")
    ScriptedWorker(task).succeed_task()
    again = client.reproduce(client.get(str(task.pk)))
    assert row(again).reproduces == task
    assert again.reproduction == {"of": str(task.pk), "verdict": None, "images": [], "differences": {}}


def test_pages_are_read_as_far_as_they_are_wanted(client: Client, make_task: MakeTask, claimed: MakeTask) -> None:
    made = [str(make_task().pk) for _ in range(101)]
    assert [task.id for task in client.list()] == made[::-1]
    running = claimed(priority=5)
    assert [task.id for task in client.list(status="running", model="demo")] == [str(running.pk)]
    assert next(client.list()).id == str(running.pk)


def test_a_stream_tells_everything_to_the_end(client: Client, make_task: MakeTask) -> None:
    task = make_task(params={"num_images": 2})
    with heard(client, str(task.pk)) as events:
        worker = ScriptedWorker(task)
        worker.publish_step(1)
        next_step(events, 1)
        worker.publish_preview(1)
        worker.succeed_task()
        told = rest(events)
    assert [event.name for event in told] == ["preview", "status", "image", "image", "done"]
    assert {event.task_id for event in told} == {str(task.pk)}
    assert [event.image.seed for event in told if event.image] == [7, 8]
    assert told[-1].task == client.get(str(task.pk))


def test_a_stream_that_breaks_is_taken_up_where_it_broke(url: str, client: Client, make_task: MakeTask) -> None:
    proxy = Proxy(port_of(url))
    task = make_task()
    worker = ScriptedWorker(task)
    worker.publish_step(1)
    with (
        closing(proxy),
        Client(f"http://127.0.0.1:{proxy.port}") as broken,
        heard(broken, str(task.pk)) as events,
    ):
        next_step(events, 1)
        proxy.cut_connections()
        worker.publish_step(2)
        worker.publish_step(3)
        worker.succeed_task()
        told = rest(events)
    steps = [event.progress.step for event in told if event.progress]
    assert (steps, told[-1].name) == ([2, 3], "done")


def test_a_stream_ends_when_the_service_does_not_come_back(url: str, make_task: MakeTask) -> None:
    proxy = Proxy(port_of(url))
    with Client(f"http://127.0.0.1:{proxy.port}", retries=1) as client:
        stream = client.stream(str(make_task().pk))
        assert next(stream).data["status"] == "queued"
        proxy.close()
        with pytest.raises(ApiError) as lost:
            list(stream)
    assert lost.value.code == "unreachable"


def test_pictures_are_saved_under_the_tasks_id(client: Client, make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(params={"num_images": 2})
    ScriptedWorker(task).succeed_task()
    paths = client.download(str(task.pk), tmp_path / "new")
    assert paths == tuple(tmp_path / "new" / f"{task.pk}-{index}.png" for index in range(2))
    for index, path in enumerate(paths):
        assert path.read_bytes() == client.image(str(task.pk), index)
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            assert (picture.format, picture.size) == ("PNG", (32, 32))


def test_a_canceled_task_is_no_success(client: Client, tmp_path: Path) -> None:
    task = client.submit("a house", model="demo")
    assert client.cancel(task).status == "canceled"
    with pytest.raises(TaskFailed) as canceled:
        client.download(task, tmp_path)
    assert (canceled.value.code, canceled.value.task.status) == ("canceled", "canceled")
    assert client.cancel(task).status == "canceled"
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_failed_says_why(client: Client, make_task: MakeTask) -> None:
    task = make_task()
    lifecycle.mark_failed(ScriptedWorker(task).claim, code="out_of_memory", message="Too large.")
    with pytest.raises(TaskFailed, match="Too large") as failed:
        client.wait(str(task.pk))
    assert (failed.value.code, failed.value.retryable) == ("out_of_memory", True)
    told = list(client.stream(str(task.pk)))
    assert told[-1].task == failed.value.task


def test_waiting_ends_with_the_time_and_the_task_goes_on(client: Client, make_task: MakeTask) -> None:
    task = make_task()
    with pytest.raises(WaitTimeout) as late:
        client.wait(str(task.pk), timeout=0.3)
    assert late.value.task.status == "queued"
    ScriptedWorker(task).succeed_task()
    assert client.wait(str(task.pk), timeout=10).succeeded
