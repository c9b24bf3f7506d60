"""Texts in PNG, JPEG and WebP files, by name; read with size limits and without decoding pixels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tasks_app.errors import InvalidImageError
from tasks_app.images.metadata import exif
from tasks_app.images.metadata.exif import MAX_TEXT_BYTES

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Ordinary chunks are kilobytes long; a file of many tiny ones is meant to keep the parser busy.
MAX_CHUNKS = 20_000
DAMAGED_MESSAGE = "The image file is damaged or incomplete."
_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt"}
_START_OF_SCAN, _APP1 = 0xDA, 0xE1
_STANDALONE_MARKERS = {0x01, *range(0xD0, 0xD9)}


def read_texts(content: bytes, names: set[str]) -> dict[str, str]:
    """Return the texts of a file that have one of the names; in EXIF, each of our texts has a fixed tag.

    Raises:
        InvalidImageError: the file is neither PNG, JPEG nor WebP, or it is damaged.
    """
    if content.startswith(PNG_SIGNATURE):
        return _read_png(content, names)
    if content.startswith(b"\xff\xd8\xff"):
        return exif.parse_exif(_extract_jpeg_exif(content))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return exif.parse_exif(_extract_webp_exif(content))
    raise InvalidImageError("This is not a PNG, JPEG or WebP file.")


def _read_png(content: bytes, names: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, data in _iter_png_chunks(content):
        name = data[:80].partition(b"\0")[0].decode("latin-1") if kind in _TEXT_CHUNKS else ""
        if name in names and name not in found:
            found[name] = _decode_png_text(kind, data[len(name) + 1 :])
    return found


def _iter_png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        size, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        data, told = content[at + 8 : at + 8 + size], content[at + 8 + size : at + 12 + size]
        if len(told) < 4 or (kind in _TEXT_CHUNKS and zlib.crc32(kind + data) != int.from_bytes(told)):
            raise InvalidImageError(DAMAGED_MESSAGE)
        if kind == b"IEND":
            return
        yield kind, data
        at += 12 + size
    raise InvalidImageError("The image file has too many chunks.")


def _decode_png_text(kind: bytes, data: bytes) -> str:
    if kind == b"iTXt":
        compressed, _, rest = data[:1] == b"\1", data[1:2], data[2:]
        _, _, rest = rest.partition(b"\0")  # language
        _, _, data = rest.partition(b"\0")  # translated name
    elif kind == b"zTXt":
        compressed, data = True, data[1:]
    else:
        compressed = False
    content = _inflate_text(data) if compressed else data
    if len(content) > MAX_TEXT_BYTES:
        raise InvalidImageError("A text in the image file is too long.")
    try:
        return content.decode("utf-8" if kind == b"iTXt" else "latin-1")
    except UnicodeDecodeError:
        raise InvalidImageError(DAMAGED_MESSAGE) from None


def _inflate_text(data: bytes) -> bytes:
    """Decompress at most one byte more than allowed, to detect a text that is too long."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, MAX_TEXT_BYTES + 1)
    except zlib.error:
        raise InvalidImageError(DAMAGED_MESSAGE) from None
    if len(content) <= MAX_TEXT_BYTES and not inflater.eof:
        raise InvalidImageError(DAMAGED_MESSAGE)
    return content


def _extract_jpeg_exif(content: bytes) -> bytes:
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, size = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker == 0xFF or marker in _STANDALONE_MARKERS:  # fill bytes; markers without content
            at += 1 if marker == 0xFF else 2
            continue
        data = content[at + 4 : at + 2 + size]
        if size < 2 or len(data) < size - 2:
            raise InvalidImageError(DAMAGED_MESSAGE)
        if marker == _APP1 and data.startswith(exif.EXIF_PREFIX):
            return data.removeprefix(exif.EXIF_PREFIX)
        if marker == _START_OF_SCAN:
            return b""
        at += 2 + size
    raise InvalidImageError(DAMAGED_MESSAGE)


def _extract_webp_exif(content: bytes) -> bytes:
    if 8 + int.from_bytes(content[4:8], "little") > len(content):
        raise InvalidImageError(DAMAGED_MESSAGE)
    at = 12
    for _ in range(MAX_CHUNKS):
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        data = content[at + 8 : at + 8 + size]
        if not kind:
            return b""
        if len(data) < size or len(kind) < 4:
            raise InvalidImageError(DAMAGED_MESSAGE)
        if kind == b"EXIF":
            return data.removeprefix(exif.EXIF_PREFIX)
        at += 8 + size + size % 2
    raise InvalidImageError("The image file has too many chunks.")
