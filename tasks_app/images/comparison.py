"""Comparison of a reproduced task with the original one: images and provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageChops, ImageStat

from tasks_app.contracts import GenerationMetadata, ImageComparison, Reproduction, StoredImage, Verdict
from tasks_app.errors import InvalidImageError, StorageError
from tasks_app.images import storage
from tasks_app.models import Task, TaskImage

# At or above this PSNR, two images differ only by rounding, as between a batched and an unbatched run.
NEAR_PSNR_DB = 40.0
_VERDICT_ORDER: tuple[Verdict, ...] = ("identical", "near", "unknown", "different")


def compare_with_original(task: Task, images: Sequence[StoredImage], recipe: GenerationMetadata) -> Reproduction | None:
    """Compare a task's images and provenance with those of the task that it reproduces.

    Return None if it reproduces none, or if that task was deleted.
    """
    if task.reproduces_id is None:
        return None
    first = Task.objects.filter(pk=task.reproduces_id).prefetch_related("images").first()
    if first is None:
        return None
    compared = tuple(_compare_image(*pair) for pair in zip(first.images.all(), images, strict=False))
    return Reproduction(
        verdict=max((picture.verdict for picture in compared), key=_VERDICT_ORDER.index),
        images=compared,
        differences=find_differences(
            {**first.provenance, "revision": first.revision}, {**recipe.provenance, "revision": recipe.revision}
        ),
    )


def find_differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Return the entries that differ, by name, as old and new value; None for an unknown value."""
    names = sorted(then.keys() | now.keys())
    return {name: (then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)}


def compute_psnr(one: Image.Image, other: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two RGB images of equal size in decibels; infinity if they are equal.

    10 log₁₀(255² / MSE), with the mean over pixels and channels: Huynh-Thu & Ghanbari, Electronics Letters 44 (2008).
    """
    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    mean = sum(squares) / (len(squares) * one.width * one.height)
    return 10 * math.log10(255**2 / mean) if mean else math.inf


def compare_images(one: Image.Image, other: Image.Image) -> tuple[Verdict, float | None]:
    """Return the verdict on two RGB images, and their PSNR in decibels.

    The PSNR is None if the images are equal or have different sizes.
    """
    if one.size != other.size:
        return "different", None
    decibels = compute_psnr(one, other)
    if math.isinf(decibels):
        return "identical", None
    return "near" if decibels >= NEAR_PSNR_DB else "different", round(decibels, 2)


def _compare_image(first: TaskImage, again: StoredImage) -> ImageComparison:
    identical_file = first.sha256 == again.sha256
    verdict, decibels = ("identical", None) if identical_file else _compare_pixels(str(first.file.name), again.name)
    return ImageComparison(index=again.index, verdict=verdict, psnr=decibels, identical_file=identical_file)


def _compare_pixels(first: str, again: str) -> tuple[Verdict, float | None]:
    # Compare both as decoded from their files, since a lossy format changes both in the same way.
    try:
        return compare_images(storage.read_image(first), storage.read_image(again))
    except (FileNotFoundError, StorageError, InvalidImageError):
        # A file was purged. Different file hashes prove nothing, since files also contain metadata.
        return "unknown", None
