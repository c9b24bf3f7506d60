"""What one stream tells of one task, when Redis and the rows say things twice, late or out of order."""

import json
from typing import Any
from uuid import uuid4

from tasks_app.api.live.states import TaskState
from tasks_app.api.live.stream import TaskStreamState, encode_event
from tasks_app.contracts import Event
from tasks_app.models import Status

TASK = uuid4()


def progress(attempt: int, step: int, phase: str = "denoising", **more: Any) -> dict[str, Any]:
    return {"attempt": attempt, "phase": phase, "step": step, "total_steps": 4, **more}


class Told:
    """An account, and what it told."""

    def __init__(self) -> None:
        self.account = TaskStreamState(TASK)
        self.entry = 0

    def event(self, name: str, entry: int | None = None, **data: Any) -> list[tuple[str, Any, str]]:
        self.entry += 1
        number = self.entry if entry is None else entry
        id_ = "" if name == "preview" else f"1-{number}"
        return read(self.account.on_event(Event(task_id=TASK, name=name, data=data, entry=id_)))

    def state(self, status: Status, attempt: int, **more: Any) -> list[tuple[str, Any, str]]:
        return read(self.account.on_state(TaskState(task_id=TASK, status=status, attempt=attempt, **more)))


def read(frames: list[bytes]) -> list[tuple[str, Any, str]]:
    """Return name, what counts and id of each frame."""
    told = []
    for one in frames:
        fields = dict(line.split(": ", 1) for line in one.decode().strip().split("\n"))
        data = json.loads(fields["data"])
        assert data["task"] == str(TASK)
        told.append((fields["event"], data.get("status", data.get("step")), fields.get("id", "")))
    return told


def test_a_frame_is_one_line_of_json() -> None:
    text = "a\nb\u2028ü"
    told = encode_event("done", TASK, {"prompt": text}, entry="5-0").decode()
    head, data = told.removesuffix("\n\n").split("\ndata: ")
    assert head == "id: 5-0\nevent: done"
    assert len(data.splitlines()) == 1
    assert json.loads(data) == {"task": str(TASK), "prompt": text}


def test_what_was_told_already_is_not_told_again() -> None:
    told = Told()
    assert told.event("status", status="running", attempt=1) == [("status", "running", "1-1")]
    assert told.event("progress", **progress(1, 1)) == [("progress", 1, "1-2")]
    assert told.event("progress", entry=2, **progress(1, 1)) == []
    assert told.state(Status.RUNNING, 1, progress=progress(1, 1)) == []
    assert told.event("status", status="running", attempt=1) == []


def test_progress_goes_forward_only() -> None:
    told = Told()
    told.event("progress", **progress(1, 3))
    assert told.event("progress", **progress(1, 2)) == []
    assert told.state(Status.RUNNING, 1, progress=progress(1, 2)) == []
    assert told.event("progress", **progress(1, 0, "decoding")) == [("progress", 0, "1-3")]


def test_a_download_moves_within_its_step() -> None:
    told = Told()
    told.event("progress", **progress(1, 0, "loading", bytes_done=1))
    assert told.event("progress", **progress(1, 0, "loading", bytes_done=2)) == [("progress", 0, "1-2")]
    assert told.event("progress", entry=1, **progress(1, 0, "loading", bytes_done=1)) == []
    assert told.state(Status.RUNNING, 1, progress=progress(1, 0, "loading")) == []


def test_a_status_that_got_lost_is_told_before_what_comes_of_it() -> None:
    told = Told()
    told.state(Status.QUEUED, 0, queue_position=1)
    assert told.event("progress", **progress(1, 1)) == [("status", "running", "1-1"), ("progress", 1, "1-1")]
    told = Told()
    assert told.event("preview", **progress(1, 1)) == [("status", "running", ""), ("preview", 1, "")]


def test_an_older_attempt_has_nothing_to_say_any_more() -> None:
    told = Told()
    told.event("progress", **progress(2, 1))
    for name in ("progress", "preview"):
        assert told.event(name, **progress(1, 4)) == []
    assert told.event("status", status="queued", attempt=1) == []
    assert told.event("status", status="queued", attempt=2) == [("status", "queued", "1-5")]
    assert told.event("preview", **progress(2, 4)) == []


def test_a_preview_is_told_once() -> None:
    told = Told()
    told.event("progress", **progress(1, 1))
    assert told.event("preview", **progress(1, 1)) == [("preview", 1, "")]
    assert told.event("preview", **progress(1, 1)) == []
    assert told.event("preview", **progress(1, 2)) == [("preview", 2, "")]


def test_a_status_without_its_attempt_is_told_from_the_row_under_the_events_id() -> None:
    told = Told()
    told.event("progress", **progress(1, 1))
    assert told.event("status", status="queued") == []
    assert told.state(Status.QUEUED, 1, queue_position=2) == [("status", "queued", "1-2")]
    assert told.state(Status.QUEUED, 1, queue_position=2) == []
    assert told.state(Status.QUEUED, 1, queue_position=1) == [("status", "queued", "")]


def test_an_end_is_told_with_its_pictures() -> None:
    told = Told()
    told.event("status", status="running", attempt=1)
    told.event("status", status="canceled")
    task: Any = {"id": str(TASK), "status": "succeeded", "attempt": 1, "images": [{"step": 0}, {"step": 1}]}
    assert read(told.account.on_end(task)) == [
        ("status", "succeeded", "1-2"),
        ("image", 0, ""),
        ("image", 1, ""),
        ("done", "succeeded", ""),
    ]
