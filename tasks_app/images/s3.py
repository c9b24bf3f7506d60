"""Image storage in a bucket, through django-storages; errors become OSError and are raised within seconds.

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

# Known to Python from 3.13 on.
mimetypes.add_type("image/webp", ".webp")

# An unresponsive server delays a call by twice the sum, short enough for a web thread or a worker's lease.
CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
REQUEST_ATTEMPTS = 2
# Upload each image in one part, in the calling thread.
_SINGLE_PART = TransferConfig(use_threads=False, multipart_threshold=2**30)


class BucketStorage(S3Storage):  # type: ignore[misc]  # it has no types
    """A bucket that never overwrites a file, like the local storage, and raises OSError."""

    file_overwrite = False

    def __init__(self, **options: Any) -> None:
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": REQUEST_ATTEMPTS},
            signature_version="s3v4",
            s3={"addressing_style": "path" if options.get("endpoint_url") else "auto"},
            # Not all servers other than Amazon's support the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        super().__init__(client_config=config, transfer_config=_SINGLE_PART, **options)

    @cached_property
    def connection(self) -> Any:
        """Return the connection that all threads share.

        django-storages creates one per thread, which would mean one per request.
        """
        place = {"region_name": self.region_name, "endpoint_url": self.endpoint_url}
        return self._create_session().resource("s3", config=self.client_config, **place)

    def exists(self, name: str) -> bool:
        """Return whether the file exists."""
        with _translate_bucket_errors():
            found: bool = super().exists(name)
            return found

    def delete(self, name: str) -> None:
        """Remove a file; a missing file is no error."""
        with _translate_bucket_errors():
            super().delete(name)

    def url(self, name: str, *arguments: Any, **options: Any) -> str:
        """Return a signed URL of limited lifetime, without checking that the file exists."""
        with _translate_bucket_errors():
            signed: str = super().url(name, *arguments, **options)
            return signed

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Read the file with one request; django-storages itself needs two."""
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
            raise FileNotFoundError("The file is not in the bucket.") from error
        raise OSError("The bucket rejected the request.") from error
    except (BotoCoreError, RetriesExceededError) as error:
        raise OSError("The bucket is not responding.") from error
