"""The service's JSON as frozen dataclasses; fields that this version doesn't know are kept in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]

TERMINAL_STATUSES = frozenset({"succeeded", "failed", "canceled"})
SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """URL that the service notifies when the task has ended; without `events`, however it ended."""

    url: str
    events: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """Return the JSON to send."""
        return {"url": self.url, **({"events": list(self.events)} if self.events else {})}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a task."""

    phase: str | None
    step: int
    total_steps: int
    percent: int
    eta_seconds: float | None
    bytes_done: int | None
    bytes_total: int | None

    @classmethod
    def parse(cls, data: Json) -> Progress:
        """Build the object from the service's JSON."""
        return cls(
            phase=data["phase"],
            step=data["step"],
            total_steps=data["total_steps"],
            percent=data["percent"],
            eta_seconds=data["eta_seconds"],
            bytes_done=data.get("bytes_done"),
            bytes_total=data.get("bytes_total"),
        )


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a task; a purged one can't be downloaded any more."""

    index: int
    url: str
    thumbnail_url: str
    seed: int
    width: int
    height: int
    content_type: str
    sha256: str
    flagged: bool
    blank: bool
    purged: bool

    @classmethod
    def parse(cls, data: Json) -> Image:
        """Build the object from the service's JSON."""
        return cls(
            index=data["index"],
            url=data["url"],
            thumbnail_url=data["thumbnail_url"],
            seed=data["seed"],
            width=data["width"],
            height=data["height"],
            content_type=data["content_type"],
            sha256=data["sha256"],
            flagged=data["flagged"],
            blank=data["blank"],
            purged=data.get("purged", False),
        )

    @property
    def suffix(self) -> str:
        """The file name's suffix for its format."""
        return SUFFIXES.get(self.content_type, "bin")


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An image that the service keeps as the input of tasks."""

    id: str
    sha256: str
    width: int
    height: int

    @classmethod
    def parse(cls, data: Json) -> Upload:
        """Build the object from the service's JSON."""
        return cls(id=data["id"], sha256=data["sha256"], width=data["width"], height=data["height"])


@dataclass(frozen=True, kw_only=True)
class TaskError:
    """Reason why a task failed or was canceled."""

    code: str
    message: str
    retryable: bool

    @classmethod
    def parse(cls, data: Json) -> TaskError:
        """Build the object from the service's JSON."""
        return cls(code=data["code"], message=data["message"], retryable=data["retryable"])


@dataclass(frozen=True, kw_only=True)
class TaskWarning:
    """A part of the request that the service shortened, adjusted or ignored."""

    code: str
    field: str
    message: str

    @classmethod
    def parse(cls, data: Json) -> TaskWarning:
        """Build the object from the service's JSON."""
        return cls(code=data["code"], field=data["field"], message=data["message"])


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task, as the service returned it."""

    id: str
    task_type: str
    status: str
    priority: int
    params: Json
    model: str
    revision: str | None
    progress: Progress
    queue_position: int | None
    paused: bool
    attempt: int
    images: tuple[Image, ...]
    error: TaskError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    timings: Json
    reproduction: Json | None
    warnings: tuple[TaskWarning, ...]
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Json) -> Task:
        """Build the object from the service's JSON."""
        return cls(
            id=data["id"],
            task_type=data["task_type"],
            status=data["status"],
            priority=data["priority"],
            params=data["params"],
            model=data["model"]["id"],
            revision=data["model"]["revision"],
            progress=Progress.parse(data["progress"]),
            queue_position=data["queue_position"],
            paused=data["paused"],
            attempt=data["attempt"],
            images=tuple(Image.parse(image) for image in data["images"]),
            error=TaskError.parse(data["error"]) if data["error"] else None,
            created_at=datetime.fromisoformat(data["created_at"]),
            started_at=_parse_time(data["started_at"]),
            finished_at=_parse_time(data["finished_at"]),
            timings=data["timings"],
            reproduction=data.get("reproduction"),
            warnings=tuple(TaskWarning.parse(warning) for warning in data.get("warnings", [])),
            raw=data,
        )

    @property
    def ended(self) -> bool:
        """Whether its status is final."""
        return self.status in TERMINAL_STATUSES

    @property
    def succeeded(self) -> bool:
        """Whether it ended with its images."""
        return self.status == "succeeded"

    @property
    def seed(self) -> int:
        """The seed of its first image."""
        return int(self.params["seed"])


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a task's stream: `status`, `progress`, `preview`, `image` or `done`, or one of a later version.

    Events named `progress`, `image` and `done` have a `progress`, an `image` and a `task`.
    """

    name: str
    task_id: str
    data: Json
    id: str = ""
    progress: Progress | None = None
    image: Image | None = None
    task: Task | None = None

    @classmethod
    def parse(cls, name: str, data: Json, *, id: str = "") -> Event:
        """Build the object from the service's JSON."""
        return cls(
            name=name,
            task_id=data["task"],
            data=data,
            id=id,
            progress=Progress.parse(data) if name == "progress" else None,
            image=Image.parse(data) if name == "image" else None,
            task=Task.parse(data) if name == "done" else None,
        )


def _parse_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
