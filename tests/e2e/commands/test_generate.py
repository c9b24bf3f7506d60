"""`manage.py generate` against a real web server, while the test does to the task what a worker would."""

import http.server
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from diffusers_handler_client import ApiError, Client, patience
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now
from PIL import Image

from tasks_app import services
from tasks_app.management import terminal
from tasks_app.models import Task
from tasks_app.queue import lifecycle
from tests.e2e.client.scripted import TASK
from tests.support import stack as stacks
from tests.support.acting import ScriptedWorker
from tests.support.stack import ROOT, free_port, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
MakeTask = Callable[..., Task]


@pytest.fixture(scope="module")
def api(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """Run a web server for all tests of this module."""
    add_ons = tmp_path_factory.mktemp("add-ons")
    for name in ("loras/ink", "loras/glow", "embeddings/cat"):
        (add_ons / name).parent.mkdir(exist_ok=True)
        (add_ons / f"{name}.safetensors").touch()
    with django_db_blocker.unblock():
        environment = stacks.build_environment(
            LORAS_DIR=str(add_ons / "loras"), EMBEDDINGS_DIR=str(add_ons / "embeddings")
        )
    with stacks.run_web(tmp_path_factory.mktemp("logs"), environment) as (running, _):
        yield running


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command printed."""

    output: str
    errors: str


def generate(url: Any, *arguments: str) -> Done:
    output, errors = StringIO(), StringIO()
    call_command("generate", *arguments, f"--url={url}", stdout=output, stderr=errors)
    return Done(output=output.getvalue(), errors=errors.getvalue())


def posted() -> Task:
    """Wait for the task that a command posts."""
    return wait_until(lambda: Task.objects.first(), bool)  # type: ignore[return-value]


def test_a_prompt_becomes_files_whose_paths_are_all_that_is_printed(api: httpx2.Client, tmp_path: Path) -> None:
    options = ["--model=demo", "--negative=blue", "--steps=4", "--guidance=3.5", "--seed=7", "--count=2"]
    options += ["--size=64x32", "--priority=3", "--format=webp", f"--out={tmp_path / 'new'}"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(generate, api.base_url, "a house", *options)
        task = posted()
        ScriptedWorker(task).succeed_task()
        done = running.result(30)
    assert (task.seed, task.priority, task.requested_model_id) == (7, 3, "demo")
    assert task.params == {
        "prompt": "a house",
        "negative_prompt": "blue",
        "steps": 4,
        "guidance_scale": 3.5,
        "width": 64,
        "height": 32,
        "num_images": 2,
        "scheduler": None,
        "loras": [],
        "embeddings": [],
        "output_format": "webp",
    }
    paths = [tmp_path / "new" / f"{task.pk}-{index}.webp" for index in range(2)]
    assert done.output.splitlines() == [str(path) for path in paths]
    assert done.errors == f"Task {task.pk}, seed 7\n"
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "WEBP"


def test_what_is_not_given_is_left_to_the_server(api: httpx2.Client, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(generate, api.base_url, "a house", f"--out={tmp_path}")
        task = posted()
        ScriptedWorker(task).succeed_task()
        running.result(30)
    assert (task.params["steps"], task.params["num_images"], task.priority) == (30, 1, 0)


def test_refused_input_names_each_option_and_what_is_wrong(api: httpx2.Client) -> None:
    with pytest.raises(CommandError) as refused:
        generate(api.base_url, "a house", "--steps=0", "--count=99", "--size=33x32", "--model=no/such", "--priority=11")
    lines = str(refused.value).splitlines()
    assert {line.partition(":")[0] for line in lines} == {"--steps", "--count", "--size", "--model", "--priority"}
    assert not Task.objects.exists()


def test_a_scheduler_loras_and_embeddings_can_be_named(api: httpx2.Client, tmp_path: Path) -> None:
    options = ["--scheduler=euler_a", "--lora=ink:0.5", "--lora=glow", "--embedding=cat", f"--out={tmp_path}"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(generate, api.base_url, "a house", *options)
        task = posted()
        ScriptedWorker(task).succeed_task()
        running.result(30)
    assert task.params["scheduler"] == "euler_a"
    assert task.params["loras"] == [{"id": "ink", "weight": 0.5}, {"id": "glow", "weight": 1.0}]
    assert task.params["embeddings"] == ["cat"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (64, 48), "red").save(path)
    return path


@pytest.mark.parametrize("masked", [False, True])
def test_a_picture_can_be_begun_with(api: httpx2.Client, tmp_path: Path, picture: Path, masked: bool) -> None:
    options = ["--strength=0.5", f"--image={picture}", f"--out={tmp_path}"]
    # Nobody here knows what this model is for.
    options += [f"--mask={picture}", "--model=runwayml/stable-diffusion-v1-5"] if masked else ["--model=demo"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(generate, api.base_url, "a house", *options)
        task = posted()
        ScriptedWorker(task).succeed_task()
        running.result(30)
    assert task.task_type == ("inpainting" if masked else "image-to-image")
    assert (task.params["strength"], task.params["width"], task.params["height"]) == (0.5, 64, 48)
    sent = {name: api.get(f"/upload/{task.params[name]}").content for name in ("image", "mask") if name in task.params}
    assert sent.keys() == ({"image", "mask"} if masked else {"image"})
    for content in sent.values():
        assert Image.open(BytesIO(content)).size == (64, 48)


def test_what_can_not_be_begun_with_is_told_in_words(api: httpx2.Client, tmp_path: Path, picture: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for options, says in {
        (f"--image={tmp_path / 'gone.png'}",): r"gone\.png: No such file or directory\.",
        (f"--image={text}",): r"text\.png: The file is damaged, or not a PNG, JPEG or WebP image",
        (f"--image={picture}", "--strength=7"): r"^--strength: Must be between 0 and 1\.",
        ("--strength=0.5",): r"^--mask and --strength go with --image\.",
        (f"--mask={picture}",): r"^--mask and --strength go with --image\.",
    }.items():
        with pytest.raises(CommandError, match=says):
            generate(api.base_url, "a house", *options)
    assert not Task.objects.exists()


def test_what_is_refused_in_a_list_names_the_option_that_it_was_given_by(api: httpx2.Client) -> None:
    with pytest.raises(CommandError) as refused:
        generate(api.base_url, "a house", "--lora=gone", "--lora=gone2:9", "--embedding=gone", "--scheduler=fast")
    lines = str(refused.value).splitlines()
    assert {line.partition(":")[0] for line in lines} == {"--lora", "--embedding", "--scheduler"}
    assert not Task.objects.exists()
    with pytest.raises(CommandError, match="NAME:WEIGHT"):
        generate(api.base_url, "a house", "--lora=ink:much")


def test_a_task_that_exists_can_be_watched(api: httpx2.Client, make_task: MakeTask, tmp_path: Path) -> None:
    ScriptedWorker(task := make_task()).succeed_task()
    done = generate(api.base_url, f"--watch={task.pk}", f"--out={tmp_path}")
    assert done.output == f"{tmp_path / str(task.pk)}-0.png\n"


def test_a_task_that_does_not_succeed_says_why(api: httpx2.Client, make_task: MakeTask) -> None:
    failed = make_task()
    lifecycle.mark_failed(ScriptedWorker(failed).claim, code="internal", message="It broke.")
    with pytest.raises(CommandError, match=r"failed: It broke\."):
        generate(api.base_url, f"--watch={failed.pk}")
    services.cancel_task((canceled := make_task()).pk)
    with pytest.raises(CommandError, match="canceled"):
        generate(api.base_url, f"--watch={canceled.pk}")


def test_what_can_not_be_followed_is_told_in_words(api: httpx2.Client) -> None:
    with pytest.raises(CommandError, match="Not found"):
        generate(api.base_url, f"--watch={uuid4()}")
    with pytest.raises(CommandError, match="quickstart"):
        generate(f"http://127.0.0.1:{free_port()}", "a house")
    for arguments in ([], ["a house", f"--watch={uuid4()}"]):
        with pytest.raises(CommandError, match="either"):
            generate(api.base_url, *arguments)
    with pytest.raises(CommandError, match="512x512"):
        generate(api.base_url, "a house", "--size=big")


def started(api: httpx2.Client, task: Task, out: Path, **streams: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "manage.py", "generate", f"--watch={task.pk}", f"--out={out}", f"--url={api.base_url}"]
    return subprocess.Popen(command, cwd=ROOT, env=stacks.build_environment(), **streams)


def test_ctrl_c_leaves_the_task_running_and_says_what_can_be_done(
    api: httpx2.Client, make_task: MakeTask, tmp_path: Path
) -> None:
    worker = ScriptedWorker(task := make_task())
    process = started(api, task, tmp_path, stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr:
        assert b"Task" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
    assert process.wait(10) == 130
    assert f"--watch {task.pk} --url {api.base_url}" in said
    assert f"{api.base_url}/task/{task.pk}/cancel" in said
    assert "Traceback" not in said
    worker.send_heartbeat(2)  # it still runs, and nobody asked to cancel it
    task.refresh_from_db()
    assert task.cancel_requested_at is None


def test_in_a_terminal_a_bar_shows_place_phase_steps_and_the_time_left(
    api: httpx2.Client, make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task()
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 80))
    process = started(api, task, tmp_path, stdout=there, stderr=there)
    os.close(there)
    shown = ""

    def until_shown(pattern: str) -> None:
        nonlocal shown
        while not re.search(pattern, shown):
            shown += os.read(here, 4096).decode()

    until_shown(r"queued, no\. 1 .*0/4 steps")
    worker = ScriptedWorker(task)
    worker.publish_event(
        "progress", phase="loading", step=0, total_steps=4, percent=0, eta_seconds=None, bytes_done=1, bytes_total=4
    )
    until_shown(r"loading 25 %")
    worker.publish_event("progress", phase="denoising", step=2, total_steps=4, percent=50, eta_seconds=3.2)
    until_shown(r"denoising .*2/4 steps \[.*, 3 s left\]")
    worker.succeed_task()
    until_shown(rf"succeeded .*4/4 steps(?s:.*){task.pk}-0\.png")
    assert process.wait(10) == 0
    os.close(here)


class Faulty(http.server.BaseHTTPRequestHandler):
    """A server whose streams break or can't be had."""

    protocol_version = "HTTP/1.1"
    streams: list[str]
    asked: list[str]
    task: dict[str, Any]

    def do_GET(self) -> None:
        if not self.path.endswith("/events"):
            self.asked.append("")
            if self.asked.count("") > 3:
                self.task.update(status="succeeded")
            return self.answer(200, "application/json", json.dumps(self.task))
        self.asked.append(self.headers.get("Last-Event-ID", "none"))
        text = self.streams.pop(0) if self.streams else ""
        if text == "refused":
            return self.answer(502, "text/html", "Bad gateway")
        return self.answer(200, "text/event-stream", text)

    def answer(self, status: int, content_type: str, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        pass


def event(name: str, entry: str, **data: Any) -> str:
    return f"id: {entry}\nevent: {name}\ndata: {json.dumps({'task': 'x', **data})}\n\n"


@contextmanager
def faulty(*streams: str) -> Iterator[tuple[str, list[str]]]:
    """Serve a task that succeeds once it has been asked for often enough; yield the address and what was asked."""
    asked: list[str] = []
    values = {"streams": list(streams), "asked": asked, "task": {**TASK, "status": "running"}}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Faulty,), values)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STREAM_POLL_SECONDS", 0.05)
    monkeypatch.setattr(patience, "INITIAL_DELAY", 0.05)


@pytest.mark.usefixtures("_hurry")
def test_a_stream_that_breaks_is_taken_up_where_it_broke() -> None:
    end = {**TASK, "status": "succeeded"}
    first = event("status", "5-0", status="running")
    with faulty(first, first.replace("5-0", "6-0"), event("done", "7-0", **end)) as (url, asked):
        generate(url, "--watch=x")
    assert asked == ["", "none", "5-0", "6-0"]


@pytest.mark.usefixtures("_hurry")
def test_where_streams_can_not_be_had_the_task_is_asked_for() -> None:
    with faulty("refused") as (url, asked):
        generate(url, "--watch=x")
    assert asked == ["", "none", "", "", ""]


@pytest.mark.usefixtures("_hurry")
def test_a_server_that_does_not_come_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "FOLLOW_RETRIES", 3)
    with faulty(event("status", "5-0", status="running")) as (url, _), Client(url) as client:
        task = client.get("x")
    with (
        terminal.open_client(url, None) as client,
        pytest.raises(CommandError, match="No server answers"),
        terminal.translate_errors(url),
    ):
        terminal.follow_task(client, task)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ApiError("Away.", code="unavailable", status=503), "The server at http://there answers with 503."),
        (ApiError("?", code="unexpected", status=200), "What answers at http://there is another service."),
        (ApiError("Too many.", code="rate_limited", status=429), "Too many."),
    ],
)
def test_errors_of_the_client_are_told_in_words(error: ApiError, text: str) -> None:
    with pytest.raises(CommandError, match=re.escape(text)), terminal.translate_errors("http://there"):
        raise error


def test_a_purged_image_is_named_and_not_saved(make_task: MakeTask, api: httpx2.Client, tmp_path: Path) -> None:
    ScriptedWorker(task := make_task(params={"num_images": 2})).succeed_task()
    task.images.filter(index=0).update(purged_at=Now())
    done = generate(api.base_url, f"--watch={task.pk}", f"--out={tmp_path}")
    assert "Image 0 was purged." in done.errors
    assert done.output == f"{tmp_path / str(task.pk)}-1.png\n"


def test_a_failed_upload_of_a_server_that_is_away_names_no_file(picture: Path) -> None:
    with pytest.raises(CommandError, match=r"^No server answers"):
        generate(f"http://127.0.0.1:{free_port()}", "a house", f"--image={picture}")
