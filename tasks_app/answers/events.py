"""Events of a stream; the name of an event determines its data."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, Json
from typing_extensions import TypedDict

from tasks_app.answers.task import Image, Progress, Task
from tasks_app.answers.types import ID, URL, Count, Positive


class OfTask(TypedDict):
    """Member of the data of every event."""

    task: ID


class QueueState(TypedDict):
    """State of a queued task, as far as it changes while the task waits."""

    queue_position: Count | None
    paused: bool


class StatusChange(TypedDict):
    """New status of a task."""

    status: Annotated[str, Field(examples=["running"])]
    attempt: Annotated[int, Field(ge=0, examples=[1])]
    queue_position: NotRequired[Positive | None]
    paused: NotRequired[bool]


class StatusData(OfTask, StatusChange):
    """Data of a `status` event."""


class ProgressData(OfTask, Progress):
    """Data of a `progress` event."""

    attempt: Count


class PreviewData(OfTask):
    """Data of a `preview` event."""

    attempt: Count
    step: Count
    total_steps: Count
    width: Count
    height: Count
    src: Annotated[URL, Field(description="A `data:` URL of the unfinished image.")]


class ImageData(OfTask, Image):
    """Data of an `image` event."""


class DoneData(OfTask, Task):
    """Data of a `done` event."""


class StreamEvent(TypedDict):
    """Member of every event."""

    id: NotRequired[Annotated[str, Field(description="For `Last-Event-ID`.")]]


class StatusEvent(StreamEvent):
    """The task's status or queue position has changed."""

    event: Literal["status"]
    data: Json[StatusData]


class ProgressEvent(StreamEvent):
    """The task has made progress."""

    event: Literal["progress"]
    data: Json[ProgressData]


class PreviewEvent(StreamEvent):
    """A preview of an unfinished image."""

    event: Literal["preview"]
    data: Json[PreviewData]


class ImageEvent(StreamEvent):
    """An image of a task that has succeeded."""

    event: Literal["image"]
    data: Json[ImageData]


class DoneEvent(StreamEvent):
    """The task has ended; its last event."""

    event: Literal["done"]
    data: Json[DoneData]


EVENTS = (StatusEvent, ProgressEvent, PreviewEvent, ImageEvent, DoneEvent)
