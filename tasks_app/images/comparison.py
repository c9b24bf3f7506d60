"""Whether a task that was run again came out the same: its pictures and its provenance beside the first ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageChops, ImageStat

from tasks_app.contracts import GenerationMetadata, ImageComparison, Reproduction, StoredImage, Verdict
from tasks_app.errors import InvalidImageError, StorageError
from tasks_app.images import storage
from tasks_app.models import Task, TaskImage

# At and above so many decibels two pictures differ by no more than rounding, as in a batch and alone.
NEAR_PSNR_DB = 40.0
_VERDICT_ORDER: tuple[Verdict, ...] = ("identical", "near", "unknown", "different")


def compare_with_original(task: Task, images: Sequence[StoredImage], recipe: GenerationMetadata) -> Reproduction | None:
    """Compare what a task made with the task that it reproduces; None where it reproduces none, or a deleted one."""
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
    """Return what is otherwise by name, as it was and as it is; None where that is not known."""
    names = sorted(then.keys() | now.keys())
    return {name: (then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)}


def compute_psnr(one: Image.Image, other: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two RGB pictures of one size in decibels; infinity for equal ones.

    10 log₁₀(255² / MSE), with the mean over pixels and channels: Huynh-Thu & Ghanbari, Electronics Letters 44 (2008).
    """
    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    mean = sum(squares) / (len(squares) * one.width * one.height)
    return 10 * math.log10(255**2 / mean) if mean else math.inf


def compare_images(one: Image.Image, other: Image.Image) -> tuple[Verdict, float | None]:
    """Return what to call two RGB pictures, and their PSNR in decibels unless they are equal or of different sizes."""
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
    # Both as their files have them: what a lossy format loses, it loses twice alike.
    try:
        return compare_images(storage.read_image(first), storage.read_image(again))
    except (FileNotFoundError, StorageError, InvalidImageError):
        # It was purged. Hashes of files tell no more: these say what they were made with, too.
        return "unknown", None
