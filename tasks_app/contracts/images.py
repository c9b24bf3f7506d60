"""Pictures that lie in the storage, what they were made of, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["identical", "near", "different", "unknown"]


@dataclass(frozen=True, kw_only=True)
class GenerationMetadata:
    """What a run's pictures were made of, as their files tell it; `params` are those that a `POST /task` takes."""

    task_type: str
    params: Mapping[str, Any]
    model_id: str
    revision: str
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ParsedMetadata:
    """What a picture's file tells of how it was made; `ignored` has no counterpart here."""

    source: Literal["diffusers-handler", "a1111"]
    task_type: str
    params: Mapping[str, Any]
    ignored: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """A picture that lies in the storage. Sizes are in pixels."""

    index: int
    name: str
    content_type: str
    seed: int
    width: int
    height: int
    sha256: str
    flagged: bool
    blank: bool


@dataclass(frozen=True, kw_only=True)
class ImageComparison:
    """How a picture that was made again compares with the first one: by its pixels, and by its file's bytes.

    `psnr` is in decibels; None where the pixels are equal, or can't be compared.
    """

    index: int
    verdict: Verdict
    psnr: float | None
    identical_file: bool


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """How a task that was run again compares: the worst verdict, and what of its provenance was and is otherwise."""

    verdict: Verdict
    images: tuple[ImageComparison, ...]
    differences: Mapping[str, tuple[str | None, str | None]]
