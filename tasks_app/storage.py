"""Pictures in Django's default storage: a name for each attempt, so that no two runs ever write the same file."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from PIL import Image

from tasks_app.contracts import Claim, GeneratedImage, StoredImage
from tasks_app.errors import StorageFailed

CONTENT_TYPE = "image/png"
THUMBNAIL = 256


class DurableStorage(FileSystemStorage):
    """Local files that are whole or not there: written beside their place, flushed to the disk, then renamed."""

    def _save(self, name: str, content: File[bytes]) -> str:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        try:
            with draft.open("wb") as file:
                file.writelines(content.chunks())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        _flush(path.parent)
        return name


def _flush(folder: Path) -> None:
    """Make a rename in the folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def thumbnail(content: bytes) -> bytes:
    """Return a stored picture as WebP, at most THUMBNAIL pixels wide and high."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(buffer, format="WEBP", quality=85)
    return buffer.getvalue()


def remove(names: Iterable[str]) -> None:
    """Remove the files of a task that is to be forgotten; one that is gone already is no error.

    Raises:
        StorageFailed: the storage refused.
    """
    try:
        for name in names:
            default_storage.delete(name)
    except OSError as error:
        raise StorageFailed("A picture's file could not be removed.") from error


def probe() -> None:
    """Write and remove a small file, to see whether pictures could be stored.

    Raises:
        StorageFailed: the storage refused.
    """
    try:
        default_storage.delete(default_storage.save(f"probe-{uuid4().hex}", ContentFile(b"probe")))
    except OSError as error:
        raise StorageFailed("The storage can't be written to.") from error


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
