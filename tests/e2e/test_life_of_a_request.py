"""The reading list of docs/architecture/life-of-a-request.md is the way that a request really takes."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from django.conf import LazySettings
from django.test import Client

from tasks_app.engine.diffusers.handler import PIPELINE_CACHE
from tasks_app.worker import engines, saver, supervisor
from tasks_app.worker.threads import SingleThreadExecutor
from tests.support.stack import ROOT

PAGE = ROOT / "docs" / "architecture" / "life-of-a-request.md"
ROW = re.compile(r"^\| \d+ \| `(?P<file>[\w/]+\.py)` \|.*\| (?P<functions>`.*`) \|$", re.MULTILINE)
LISTED = {row["file"]: re.findall(r"`(?:\w+\.)?(\w+)`", row["functions"]) for row in ROW.finditer(PAGE.read_text())}
Calls = set[tuple[str, str]]


@contextmanager
def traced_calls() -> Iterator[Calls]:
    """Collect the functions of tasks_app, by file and name, that any thread calls."""
    calls: Calls = set()
    package = f"{ROOT / 'tasks_app'}/"

    def note_call(frame: FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(package):
            calls.add((path.removeprefix(package), frame.f_code.co_name))

    threading.setprofile(note_call)
    sys.setprofile(note_call)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture
def new_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the worker's threads start while calls are traced, but import the engine before that."""
    engines.get_handler("text-to-image", "diffusers")
    monkeypatch.setattr(supervisor, "_inference_thread", SingleThreadExecutor("traced inference"))
    monkeypatch.setattr(saver, "_saver_thread", SingleThreadExecutor("traced saver"))
    yield
    PIPELINE_CACHE.clear()


def test_a_reader_needs_at_most_ten_files() -> None:
    assert 0 < len(LISTED) <= 10
    assert all(LISTED.values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("new_threads")
def test_a_post_that_becomes_a_png_calls_every_function_of_the_list(client: Client, settings: LazySettings) -> None:
    # However short the run is, it has a heartbeat.
    settings.HEARTBEAT_SECONDS = 0
    body = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house", "steps": 2}}
    with traced_calls() as calls:
        answer = client.post("/task", body, content_type="application/json")
        supervisor.run_until_idle()
        saver.flush_pending()
        task = client.get(f"/task/{answer.json()['id']}").json()
    assert task["status"] == "succeeded", task["error"]
    assert client.get(task["images"][0]["url"]).content.startswith(b"\x89PNG")
    # The actor itself is called by Dramatiq alone.
    expected = {(file, name) for file, names in LISTED.items() for name in names if file != "actors.py"}
    classes = {name for _, name in expected if name[0].isupper()}
    assert {(file, name) for file, name in expected if name not in classes} <= calls
