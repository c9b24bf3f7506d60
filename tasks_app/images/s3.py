"""Pictures in a bucket, by django-storages: what goes wrong there is told as a file's errors are, and within seconds.

Only loaded when S3_BUCKET is set: boto3 is large.
"""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from s3transfer.exceptions import RetriesExceededError
from storages.backends.s3 import S3Storage

# Python knows it from 3.13 on.
mimetypes.add_type("image/webp", ".webp")

# A server that is silent costs a call twice the sum: a web server's thread or a worker's lease can bear that.
CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
REQUEST_ATTEMPTS = 2
# Pictures go in one piece, in the thread that asks.
_SINGLE_PART = TransferConfig(use_threads=False, multipart_threshold=2**30)


class BucketStorage(S3Storage):  # type: ignore[misc]  # it has no types
    """A bucket that never writes over a file, like the local storage, and raises OSError."""

    file_overwrite = False

    def __init__(self, **options: Any) -> None:
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": REQUEST_ATTEMPTS},
            signature_version="s3v4",
            s3={"addressing_style": "path" if options.get("endpoint_url") else "auto"},
            # Servers other than Amazon's don't all know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        super().__init__(client_config=config, transfer_config=_SINGLE_PART, **options)

    @cached_property
    def connection(self) -> Any:
        """Return what all threads share: making one for each, as django-storages does, means one for each request."""
        place = {"region_name": self.region_name, "endpoint_url": self.endpoint_url}
        return self._create_session().resource("s3", config=self.client_config, **place)

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        with _translate_bucket_errors():
            found: bool = super().exists(name)
            return found

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is no error."""
        with _translate_bucket_errors():
            super().delete(name)

    def url(self, name: str, *arguments: Any, **options: Any) -> str:
        """Return a signed URL of limited life; whether the file is there is not looked at."""
        with _translate_bucket_errors():
            signed: str = super().url(name, *arguments, **options)
            return signed

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Read it by one request; django-storages' own way takes two."""
        with _translate_bucket_errors():
            body = self.bucket.Object(self._normalize_name(name)).get()["Body"]
            return File(io.BytesIO(body.read()), name)

    def _save(self, name: str, content: File[bytes]) -> str:
        with _translate_bucket_errors():
            saved: str = super()._save(name, content)
            return saved


@contextmanager
def _translate_bucket_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            raise FileNotFoundError("The bucket has no such file.") from error
        raise OSError("The bucket refused.") from error
    except (BotoCoreError, RetriesExceededError) as error:
        raise OSError("The bucket does not answer.") from error
