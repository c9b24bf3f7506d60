"""Images in Django's default storage; each attempt has its own file names, so no two runs write the same file."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from PIL import Image

from tasks_app.contracts import Claim, GenerationMetadata, StoredImage
from tasks_app.engine.types import GeneratedImage, OutputFormat
from tasks_app.errors import InvalidImageError, StorageError
from tasks_app.images import decoding, metadata

logger = logging.getLogger(__name__)

FILE_SUFFIXES: Mapping[OutputFormat, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
MAX_THUMBNAIL_SIDE = 256


class DurableStorage(FileSystemStorage):
    """Local storage with atomic writes: files are written beside their target, flushed to disk, then renamed."""

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
        _fsync_folder(path.parent)
        return name


def _fsync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def store_images(
    claim: Claim, images: Sequence[GeneratedImage], recipe: GenerationMetadata, *, stored_one: Callable[[], object]
) -> list[StoredImage]:
    """Store a run's images with their generation metadata; call `stored_one` after each.

    Raises:
        StorageError: an image could not be stored; those stored before are removed.
    """
    stored: list[StoredImage] = []
    try:
        for index, image in enumerate(images):
            stored.append(_store_image(claim, index, image, recipe))
            stored_one()
    except OSError as error:
        discard_images(stored)
        raise StorageError("Couldn't save the images.") from error
    return stored


def write_file(name: str, content: bytes) -> None:
    """Write a file under an unused name.

    Raises:
        StorageError: the file could not be written.
    """
    try:
        default_storage.save(name, ContentFile(content))
    except OSError as error:
        raise StorageError("Couldn't save the image.") from error


def read_file(name: str) -> bytes:
    """Return the content of a stored file.

    Raises:
        FileNotFoundError: the file does not exist.
        StorageError: the file could not be read.
    """
    try:
        with default_storage.open(name) as file:
            return bytes(file.read())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError("The storage is not responding.") from error


def get_redirect_origin() -> str:
    """Return the origin that clients are redirected to for images; empty if the server sends them itself."""
    if not settings.S3_PRESIGNED:
        return ""
    parts = urlsplit(default_storage.url("any"))
    return f"{parts.scheme}://{parts.netloc}"


def build_thumbnail(content: bytes) -> bytes:
    """Return a stored image as WebP, at most MAX_THUMBNAIL_SIDE pixels wide and high.

    Raises:
        InvalidImageError: the file is damaged.
    """
    buffer = io.BytesIO()
    with _translate_decoding_errors(), Image.open(io.BytesIO(content)) as image:
        image.thumbnail((MAX_THUMBNAIL_SIDE, MAX_THUMBNAIL_SIDE))
        image.save(buffer, format="WEBP", quality=85)
    return buffer.getvalue()


def read_image(name: str) -> Image.Image:
    """Return a stored image, decoded, in RGB.

    Raises:
        FileNotFoundError: the file does not exist.
        StorageError: the file could not be read.
        InvalidImageError: the file is damaged.
    """
    content = read_file(name)
    with _translate_decoding_errors(), Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")


@contextmanager
def _translate_decoding_errors() -> Iterator[None]:
    try:
        yield
    except decoding.DECODING_ERRORS as error:
        raise InvalidImageError("The image file is damaged.") from error


def delete_files(names: Iterable[str]) -> None:
    """Remove the files of a task or upload that is being deleted; missing files are no error.

    Raises:
        StorageError: a file could not be removed.
    """
    try:
        for name in names:
            default_storage.delete(name)
    except OSError as error:
        raise StorageError("Couldn't delete an image file.") from error


def check_writable() -> None:
    """Check that images can be stored, by writing and removing a small file.

    Raises:
        StorageError: the file could not be written or removed.
    """
    try:
        default_storage.delete(default_storage.save(f"probe-{uuid4().hex}", ContentFile(b"probe")))
    except OSError as error:
        raise StorageError("The storage is not writable.") from error


def discard_images(images: Iterable[StoredImage]) -> None:
    """Remove the files of a run whose result is discarded.

    A file that can't be removed is left in the storage; no row refers to it.
    """
    try:
        delete_files(image.name for image in images)
    except StorageError as error:
        logger.warning("Files of a discarded run were not deleted: %s", error)


def _store_image(claim: Claim, index: int, image: GeneratedImage, recipe: GenerationMetadata) -> StoredImage:
    # Tasks created before this parameter existed don't have it.
    output_format: OutputFormat = recipe.params.get("output_format", "png")
    content = metadata.encode_image(image.image, output_format, recipe, seed=image.seed)
    name = f"tasks/{claim.task_id}/{claim.attempt}-{index}.{FILE_SUFFIXES[output_format]}"
    return StoredImage(
        index=index,
        name=default_storage.save(name, ContentFile(content)),
        content_type=f"image/{output_format}",
        seed=image.seed,
        width=image.image.width,
        height=image.image.height,
        sha256=hashlib.sha256(content).hexdigest(),
        flagged=image.flagged,
        blank=image.blank,
    )
