"""Answers of the compatibility APIs, in the formats of OpenAI and A1111."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from tasks_app.answers.types import ID, URL, Count


class OpenAIErrorDetails(TypedDict):
    """Error in OpenAI's format."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """Body of an error response in OpenAI's format."""

    error: OpenAIErrorDetails


class GeneratedURL(TypedDict):
    """An image as a signed URL."""

    url: URL


class GeneratedBase64(TypedDict):
    """An image in Base64."""

    b64_json: str


class Generated(TypedDict):
    """Images in OpenAI's format."""

    created: Count
    data: list[GeneratedURL | GeneratedBase64]
    size: str
    output_format: str


class Model(TypedDict):
    """A model in OpenAI's format."""

    id: str
    object: Literal["model"]
    created: Count
    owned_by: str


class Models(TypedDict):
    """Models in OpenAI's format."""

    object: Literal["list"]
    data: list[Model]


class A1111ErrorField(TypedDict):
    """An invalid value in a request, in A1111's format."""

    loc: list[str]
    msg: str
    type: str


class A1111Error(TypedDict):
    """Body of an error response in A1111's format."""

    error: str
    detail: str | list[A1111ErrorField]
    body: str
    errors: str


class Pictures(TypedDict):
    """Images in A1111's format."""

    images: list[str]
    parameters: dict[str, Any]
    info: Annotated[str, Field(description="JSON.")]


class WebUIState(TypedDict):
    """State of a job in A1111's format."""

    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: ID | Literal[""]
    job_count: Count
    job_timestamp: str
    job_no: Count
    sampling_step: Count
    sampling_steps: Count


class WebUIProgress(TypedDict):
    """Progress in A1111's format."""

    progress: Annotated[float, Field(ge=0, le=1)]
    eta_relative: float
    state: WebUIState
    current_image: Annotated[str | None, Field(description="A preview as WebP in Base64.")]
    textinfo: str | None


class PictureInfo(TypedDict):
    """Generation parameters stored in an image file, in A1111's format."""

    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


class Checkpoint(TypedDict):
    """A model in A1111's format."""

    title: str
    model_name: str
    filename: str
    hash: Any
    sha256: Any
    config: Any


class LoraName(TypedDict):
    """A LoRA in A1111's format."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class EmbeddingNames(TypedDict):
    """Embeddings by name in A1111's format."""

    loaded: dict[str, Any]
    skipped: dict[str, Any]


class Sampler(TypedDict):
    """A sampler in A1111's format."""

    name: str
    aliases: list[str]
    options: dict[str, Any]


class SchedulerName(TypedDict):
    """A schedule type in A1111's format."""

    name: str
    label: str
    aliases: Any
    default_rho: float
    need_inner_model: bool
