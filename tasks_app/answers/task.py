"""Tasks and their parts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypeAliasType, TypedDict

from tasks_app import errors
from tasks_app.answers.types import ID, SHA256, URL, Count, ModelID, Pixels, Positive
from tasks_app.contracts import Verdict
from tasks_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY, Phase, Status, TaskImage

# Codes that only reject requests; the others are codes of tasks that ended without images.
_REQUEST_ERROR_CODES = {
    error.code
    for error in (
        errors.ModelNotAllowedError,
        errors.QuotaExceededError,
        errors.IdempotencyKeyReusedError,
        errors.InvalidImageError,
        errors.NotReproducibleError,
    )
}
_TASK_ERROR_CODES = sorted(errors.RETRYABLE.keys() - _REQUEST_ERROR_CODES)
# All effective parameters. The task type defines their schema; older tasks lack those that were added later.
TaskParams = TypeAliasType("TaskParams", dict[str, Any])


class ResolvedModel(TypedDict):
    """The model that the requested name stands for."""

    id: ModelID
    revision: Annotated[
        str | None,
        Field(description="The commit that the worker loaded; `local` for a folder on the server.", examples=["local"]),
    ]


class Progress(TypedDict):
    """Progress of a task, live while it runs."""

    phase: Annotated[str, Field(json_schema_extra={"enum": list(Phase.values)})] | None
    step: Annotated[int, Field(ge=0, examples=[25])]
    total_steps: Annotated[int, Field(ge=0, examples=[25])]
    percent: Annotated[int, Field(ge=0, le=100, examples=[100])]
    eta_seconds: Annotated[float, Field(ge=0)] | None
    bytes_done: NotRequired[Annotated[Count | None, Field(description="Bytes of the model downloaded so far.")]]
    bytes_total: NotRequired[Annotated[Count | None, Field(description="Bytes of the model to download.")]]


class ImageColumns(TypedDict):
    """Columns of an image that the API returns."""

    index: Count
    seed: Annotated[int, Field(ge=0, description="The task's seed + index.", examples=[42])]
    width: Pixels
    height: Pixels
    content_type: Annotated[str, Field(examples=["image/png"])]
    sha256: SHA256
    flagged: Annotated[bool, Field(description=str(TaskImage._meta.get_field("flagged").help_text))]
    blank: Annotated[bool, Field(description=str(TaskImage._meta.get_field("blank").help_text))]
    purged: Annotated[bool, Field(description="The file was removed; its URL responds with 410.")]


class Image(ImageColumns):
    """One image of a task."""

    url: URL
    thumbnail_url: URL


class TaskError(TypedDict):
    """The reason why a task ended without images."""

    code: Annotated[str, Field(json_schema_extra={"enum": _TASK_ERROR_CODES})]
    message: Annotated[str, Field(description="For people; it may change.")]
    retryable: Annotated[bool, Field(description="The same request may succeed at another time.")]


class TaskWarning(TypedDict):
    """A part of the request that was shortened, adjusted or ignored."""

    code: Annotated[str, Field(examples=["prompt_truncated"])]
    field: Annotated[
        str, Field(description="Name of the parameter; empty if it concerns no single one.", examples=["prompt"])
    ]
    message: Annotated[
        str, Field(description="For people; it may change.", examples=["Only the first 75 tokens have an effect."])
    ]


class ComparedImage(TypedDict):
    """Comparison of one image with the original one."""

    index: Count
    verdict: Verdict
    psnr: Annotated[float | None, Field(description="In decibels; null if the pixels are equal or can't be compared.")]
    identical_file: Annotated[bool, Field(description="The files are equal byte by byte.")]


class Reproduction(TypedDict):
    """Comparison of a reproduced task with the original one."""

    of: Annotated[ID | None, Field(description="The original task; null after it was deleted.")]
    verdict: Annotated[
        Verdict | None, Field(description="The worst verdict of the images; null before the task has succeeded.")
    ]
    images: list[ComparedImage]
    differences: Annotated[
        dict[str, Annotated[list[str | None], Field(min_length=2, max_length=2)]],
        Field(description="The original and the new value of each entry of `provenance` that changed."),
    ]


class TaskURLs(TypedDict):
    """URLs of a task."""

    self: URL
    events: URL
    cancel: URL
    images: URL


class TaskCore(TypedDict):
    """Members that a task has in the API and in webhooks."""

    id: ID
    task_type: Annotated[str, Field(examples=["text-to-image"])]
    status: Annotated[
        str,
        Field(
            json_schema_extra={"enum": list(Status.values)},
            description="The last three are final.",
            examples=["succeeded"],
        ),
    ]
    model: ResolvedModel
    error: TaskError | None
    created_at: Annotated[datetime, Field(examples=["2025-07-25T09:30:00.123456Z"])]
    started_at: Annotated[datetime | None, Field(examples=["2025-07-25T09:30:00.456789Z"])]
    finished_at: Annotated[datetime | None, Field(examples=["2025-07-25T09:30:01.789012Z"])]
    retried_from: Annotated[ID | None, Field(description="The task that this one repeats.")]


class Task(TaskCore):
    """A request for images, from its submission to its end."""

    priority: Annotated[int, Field(ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)]
    params: TaskParams
    progress: Progress
    queue_position: Annotated[
        Positive | None, Field(description="Its position by priority and age while it is queued.")
    ]
    paused: Annotated[bool, Field(description="It is queued, and the queue or its model is paused.")]
    attempt: Annotated[int, Field(ge=0, description="How many times a worker has claimed it.", examples=[1])]
    images: list[Image]
    warnings: list[TaskWarning]
    timings: Annotated[
        dict[str, float], Field(description="Seconds by stage.", examples=[{"loading": 0.4, "denoising": 0.8}])
    ]
    provenance: Annotated[
        dict[str, str],
        Field(
            description="What the images depend on besides parameters and commit; empty before the task has succeeded.",
            examples=[{"device": "cuda", "dtype": "float16", "batch_size": "1", "torch": "2.9.0"}],
        ),
    ]
    reproduction: Reproduction | None
    urls: TaskURLs


class TaskPage(TypedDict):
    """A page of tasks."""

    next: URL | None
    previous: URL | None
    results: list[Task]


class WebhookImage(TypedDict):
    """One image of a task in a webhook."""

    index: Count
    url: URL
    seed: Count
    width: Count
    height: Count
    content_type: str
    sha256: str


class WebhookURLs(TypedDict):
    """URLs of a task in a webhook."""

    self: URL
    images: URL


class WebhookTask(TaskCore):
    """A task that has ended, as webhooks send it; receivers can request the rest from the API."""

    images: list[WebhookImage]
    urls: WebhookURLs


class WebhookBody(TypedDict):
    """Body of a webhook."""

    type: str
    timestamp: datetime | None
    data: WebhookTask
