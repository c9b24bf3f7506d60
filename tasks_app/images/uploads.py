"""Uploaded images that tasks start from.

Only their pixels are stored. An upload is kept while a task refers to it and expires afterwards.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now
from PIL import Image

from tasks_app.access import permissions
from tasks_app.contracts import Principal
from tasks_app.engine.types import UploadInfo
from tasks_app.errors import InvalidImageError, InvalidParamsError, StorageError
from tasks_app.images import decoding, storage
from tasks_app.models import Task, Upload

logger = logging.getLogger(__name__)

UPLOAD_EXPIRED = "The uploaded image has expired: the server keeps uploads for a limited time. Upload it again."
BATCH_SIZE = 100


def add_upload(content: bytes, caller: Principal) -> UploadInfo:
    """Store an image for the caller's tasks, as a PNG with nothing but its pixels.

    Raises:
        InvalidImageError: this server does not accept the image.
        StorageError: the image could not be stored.
    """
    image = decoding.decode_image(content, max_pixels=settings.MAX_PIXELS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    kept = buffer.getvalue()
    told = UploadInfo(id=uuid4(), sha256=hashlib.sha256(kept).hexdigest(), width=image.width, height=image.height)
    # Create the row first: a file without a row would never be removed.
    upload = Upload.objects.create(
        id=told.id, key_id=caller.key_id, sha256=told.sha256, width=told.width, height=told.height
    )
    try:
        storage.write_file(get_file_name(told.id), kept)
    except StorageError:
        upload.delete()
        raise
    return told


def find_upload(upload_id: UUID, caller: Principal) -> UploadInfo | None:
    """Return an upload that the caller's tasks may use, else None.

    None does not reveal whether another caller has an upload with this id.
    """
    found = permissions.filter_usable(Upload.objects.filter(pk=upload_id, purged_at__isnull=True), caller).first()
    if found is None:
        return None
    return UploadInfo(id=found.id, sha256=found.sha256, width=found.width, height=found.height)


def lock_uploads(upload_ids: Sequence[UUID]) -> list[Upload]:
    """Lock the rows of the uploads and return them.

    None of them expires before the end of the transaction, in which a task starts to refer to them.

    Raises:
        InvalidParamsError: an upload has expired.
    """
    # Always in the same order, so that two tasks with the same uploads can't deadlock.
    kept = Upload.objects.filter(pk__in=upload_ids, purged_at__isnull=True).order_by("pk")
    locked = list(kept.select_for_update(no_key=True))
    if len(locked) < len(set(upload_ids)):
        raise InvalidParamsError(UPLOAD_EXPIRED)
    return locked


def read_upload(upload_id: UUID) -> Image.Image:
    """Return the image of an upload in RGB.

    Raises:
        InvalidParamsError: the file is missing or damaged.
        StorageError: the file could not be read.
    """
    try:
        return storage.read_image(get_file_name(upload_id))
    except (FileNotFoundError, InvalidImageError):
        raise InvalidParamsError(UPLOAD_EXPIRED) from None


def purge_uploads() -> int:
    """Remove uploads older than UPLOAD_TTL_HOURS unless an unpurged task refers to them; return their number."""
    while _mark_expired():
        continue
    return sum(
        _delete_upload(upload) for upload in Upload.objects.filter(purged_at__isnull=False).order_by("purged_at")
    )


def _mark_expired() -> int:
    with transaction.atomic():
        # Lock the rows, then query again: the second query sees tasks that started to refer to one in between.
        locked = _filter_expired().select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH_SIZE]
        return _filter_expired().filter(pk__in=list(locked)).update(purged_at=Now())


def _filter_expired() -> QuerySet[Upload]:
    referring = Task.uploads.through.objects.filter(upload=OuterRef("pk"), task__purged_at__isnull=True)
    old = Upload.objects.filter(created_at__lt=Now() - timedelta(hours=settings.UPLOAD_TTL_HOURS))
    return old.filter(~Exists(referring), purged_at__isnull=True)


def _delete_upload(upload: Upload) -> bool:
    try:
        storage.delete_files([get_file_name(upload.pk)])
    except StorageError as error:
        logger.warning("Upload %s: not deleted, will be retried: %s", upload.pk, error)
        return False
    logger.info("Upload %s: deleted.", upload.pk)  # before the row goes, and with it the id
    upload.delete()
    return True


def get_file_name(upload_id: UUID) -> str:
    """Return the name of an upload's file in the storage."""
    return f"inputs/{upload_id}.png"
