"""Answers about uploads, models, add-ons and the service itself."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from tasks_app.answers.types import ID, SHA256, URL, Count, ModelID, Pixels, Positive
from tasks_app.engine import types


class Recovered(TypedDict):
    """Generation parameters stored in an image file."""

    source: Literal["diffusers-handler", "a1111"]
    task_type: Annotated[str, Field(examples=["text-to-image"])]
    params: Annotated[
        dict[str, Any],
        Field(description="Ready for `POST /task`.", examples=[{"prompt": "a red house", "steps": 25, "seed": 42}]),
    ]
    ignored: Annotated[dict[str, Any], Field(description="Values in the file that this server does not support.")]


class Upload(TypedDict):
    """An uploaded image."""

    id: ID
    sha256: Annotated[SHA256, Field(description="Hash of the stored PNG.")]
    width: Pixels
    height: Pixels


class Links(TypedDict):
    """Signed URLs that need no key for a limited time."""

    events: URL
    images: list[URL]


class Lora(TypedDict):
    """A LoRA that requests may name."""

    id: Annotated[str, Field(examples=["watercolor"])]
    bytes: Annotated[int, Field(ge=0, description="Size of its file.", examples=[151_108_008])]


class Embedding(TypedDict):
    """An embedding that requests may name."""

    id: Annotated[str, Field(examples=["mood"])]
    bytes: Annotated[int, Field(ge=0, description="Size of its file.", examples=[151_108_008])]


def _build_load_options_schema() -> dict[str, Any]:
    kinds: dict[type, str] = {str: "string", bool: "boolean"}
    options = {option.name: {"type": kinds[type(option.default)]} for option in fields(types.LoadOptions)}
    return {"type": "object", "required": list(options), "properties": options}


LoadOptions = Annotated[dict[str, Any], WithJsonSchema(_build_load_options_schema())]
_UNKNOWN = "null if the web process does not have the model's configuration."


class ModelDefaults(TypedDict):
    """Values for parameters that a request leaves out; null means the parameter's own default."""

    steps: Positive | None
    guidance_scale: Annotated[float, Field(ge=0)] | None
    width: Positive | None
    height: Positive | None
    scheduler: str | None
    negative_prompt: str | None


class DiffusionModel(TypedDict):
    """A model, its settings and the workers that have it loaded."""

    id: ModelID
    aliases: Annotated[list[str], Field(description="Other names that requests may use.")]
    default: Annotated[bool, Field(description="Used for requests that name no model.", examples=[True])]
    allowed: Annotated[bool, Field(description="Requests may name it.", examples=[True])]
    paused: Annotated[bool, Field(description="Its tasks wait until it is resumed.")]
    revision: Annotated[str | None, Field(description="The pinned commit; null for the newest.")]
    defaults: ModelDefaults
    task_types: Annotated[
        list[str] | None,
        Field(min_length=1, description=f"Task types that it supports; {_UNKNOWN}", examples=[["text-to-image"]]),
    ]
    schedulers: Annotated[
        list[str] | None,
        Field(min_length=1, description=f"Schedulers that it supports; {_UNKNOWN}", examples=[["ddim", "euler"]]),
    ]
    max_images: Annotated[int, Field(ge=1, description="Maximum number of images per request.", examples=[8])]
    max_batch: Annotated[Positive | None, Field(description="Maximum number of images per call; null: the server's.")]
    load_options: Annotated[LoadOptions, Field(description="Options for loading it.")]
    license: Annotated[str | None, Field(examples=["apache-2.0"])]
    loaded_on: Annotated[
        list[str], Field(description="Live workers that have it loaded.", examples=[["gpu-host:4711"]])
    ]


class Health(TypedDict):
    """Answer of a process that is up."""

    status: Literal["ok"]


_Check = Annotated[str, Field(description="`ok`, or the problem.", examples=["ok"])]


class Readiness(TypedDict):
    """Whether the service can work, and the state of its parts."""

    status: Literal["ok", "unavailable"]
    database: _Check
    redis: _Check
    storage: _Check
    default_model: _Check
    workers: Annotated[
        Count | None, Field(description="Number of live workers; null while the database is unavailable.", examples=[2])
    ]
