"""Pictures in Django's default storage: a name for each attempt, so that no two runs ever write the same file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tasks_app.contracts import Claim, GeneratedImage, StoredImage
from tasks_app.errors import StorageFailed

CONTENT_TYPE = "image/png"


def store(claim: Claim, images: Sequence[GeneratedImage]) -> list[StoredImage]:
    """Write a run's pictures as PNG files.

    Raises:
        StorageFailed: the storage refused one; those written before are removed again.
    """
    stored: list[StoredImage] = []
    try:
        for index, image in enumerate(images):
            stored.append(_store(claim, index, image))
    except OSError as error:
        discard(stored)
        raise StorageFailed("The pictures could not be stored.") from error
    return stored


def discard(images: Iterable[StoredImage]) -> None:
    """Remove the files of a run whose result does not count."""
    for image in images:
        default_storage.delete(image.name)


def _store(claim: Claim, index: int, image: GeneratedImage) -> StoredImage:
    buffer = io.BytesIO()
    image.image.save(buffer, format="PNG")
    content = buffer.getvalue()
    name = default_storage.save(f"tasks/{claim.task_id}/{claim.attempt}-{index}.png", ContentFile(content))
    return StoredImage(
        index=index,
        name=name,
        content_type=CONTENT_TYPE,
        seed=image.seed,
        width=image.image.width,
        height=image.image.height,
        sha256=hashlib.sha256(content).hexdigest(),
        flagged=image.flagged,
        black=image.black,
    )
