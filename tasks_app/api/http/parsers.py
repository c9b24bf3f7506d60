"""Parsers of request bodies: strict JSON, and image files as raw bytes.

The JSON parser rejects input that the grammar allows but no client intends, and no input makes it crash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from tasks_app.api.http.body_limit import build_too_large_message
from tasks_app.fields import escape_surrogates


class BodyTooLargeError(APIException):
    """Response 413: the body has more bytes than this server accepts."""

    status_code = 413
    default_code = "body_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(build_too_large_message(most))


class StrictJSONParser(BaseParser):
    """Parser of UTF-8 JSON without duplicate keys, NaN or Infinity, of limited size and depth."""

    media_type = "application/json"

    def get_body_limit(self) -> int:
        """Return the maximum size of a body in bytes."""
        return int(settings.MAX_BODY_BYTES)

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the parsed body.

        Raises:
            BodyTooLargeError: the body is over the limit.
            ParseError: the body is not JSON that this parser accepts.
        """
        body = _read_bounded(stream, self.get_body_limit())
        try:
            return json.loads(body.decode(), object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {escape_surrogates(str(error))[:200]}") from None


class UploadJSONParser(StrictJSONParser):
    """Parser of strict JSON that contains an image, with the size limit of uploads."""

    def get_body_limit(self) -> int:
        """Return the maximum size of a body in bytes."""
        return int(settings.MAX_UPLOAD_BYTES)


class PNGParser(BaseParser):
    """Parser that returns the bytes of a PNG; they are validated later, when the image is decoded."""

    media_type = "image/png"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the body's bytes.

        Raises:
            BodyTooLargeError: the body is over the limit.
        """
        return _read_bounded(stream, settings.MAX_UPLOAD_BYTES)


class JPEGParser(PNGParser):
    """Parser that returns the bytes of a JPEG."""

    media_type = "image/jpeg"


class WebPParser(PNGParser):
    """Parser that returns the bytes of a WebP."""

    media_type = "image/webp"


def _read_bounded(stream: IO[bytes], most: int) -> bytes:
    body = stream.read(most + 1)
    if len(body) > most:
        raise BodyTooLargeError(most)
    return body


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"duplicate key {name[:100]!r}")
        values[name] = value
    return values


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
