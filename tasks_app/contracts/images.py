"""Types for stored images, their metadata and their comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["identical", "near", "different", "unknown"]


@dataclass(frozen=True, kw_only=True)
class GenerationMetadata:
    """Generation metadata of a run's images, as written to their files; `params` are those of `POST /task`."""

    task_type: str
    params: Mapping[str, Any]
    model_id: str
    revision: str
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ParsedMetadata:
    """Generation metadata read from an image file; `ignored` are values without a counterpart here."""

    source: Literal["diffusers-handler", "a1111"]
    task_type: str
    params: Mapping[str, Any]
    ignored: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image in the storage. Sizes are in pixels."""

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
    """Comparison of a reproduced image with the original one: by its pixels, and by the bytes of its file.

    `psnr` is in decibels; None if the pixels are equal or can't be compared.
    """

    index: int
    verdict: Verdict
    psnr: float | None
    identical_file: bool


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Comparison of a reproduced task with the original one; `verdict` is the worst of its images.

    `differences` has the old and the new value of each provenance entry that is not the same.
    """

    verdict: Verdict
    images: tuple[ImageComparison, ...]
    differences: Mapping[str, tuple[str | None, str | None]]
