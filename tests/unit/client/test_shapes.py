"""The service's JSON as dataclasses."""

import dataclasses
from datetime import UTC, datetime

import pytest
from diffusers_handler_client import Event, Task

from tests.e2e.client.scripted import TASK

IMAGE = {
    "index": 0,
    "url": "u",
    "thumbnail_url": "t",
    "seed": 7,
    "width": 32,
    "height": 32,
    "content_type": "image/webp",
    "sha256": "ab",
    "flagged": False,
    "blank": False,
}


def test_fields_of_a_later_service_harm_nobody_and_are_kept() -> None:
    image = {**IMAGE, "later": 1}
    error = {"code": "x", "message": "y", "retryable": False, "later": 1}
    task = Task.parse({**TASK, "later": 1, "images": [image], "error": error})
    assert task.raw["later"] == 1
    assert task.images[0].suffix == "webp"
    assert task.created_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_warnings_are_parsed_and_may_be_absent() -> None:
    warning = {"code": "x", "field": "prompt", "message": "y"}
    (found,) = Task.parse({**TASK, "warnings": [warning]}).warnings
    assert (found.code, found.field, found.message) == ("x", "prompt", "y")
    assert Task.parse(TASK).warnings == ()


def test_an_event_of_a_later_service_has_its_data_alone() -> None:
    event = Event.parse("later", {"task": "x", "new": 1}, id="5-0")
    assert (event.data["new"], event.progress, event.image, event.task) == (1, None, None, None)


def test_shapes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task.parse(TASK).status = "succeeded"  # type: ignore[misc]
