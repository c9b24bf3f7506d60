"""EXIF blocks with two texts: A1111's infotext in UserComment and our JSON in ImageDescription.

A1111 itself writes its infotext to UserComment. Our JSON is in UTF-8.
"""

from __future__ import annotations

import struct

from tasks_app.errors import InvalidImageError

EXIF_PREFIX = b"Exif\0\0"
MAX_TEXT_BYTES = 256 * 1024
# The length of a JPEG segment has 16 bits and includes its own two bytes.
MAX_JPEG_BYTES = 2**16 - 1 - 2
_TAG_DESCRIPTION, _TAG_USER_COMMENT, _TAG_EXIF_IFD = 0x010E, 0x9286, 0x8769
_UNICODE_PREFIX, _ASCII_PREFIX = b"UNICODE\0", b"ASCII\0\0\0"
_TYPE_BYTE, _TYPE_ASCII, _TYPE_LONG, _TYPE_UNDEFINED = 1, 2, 4, 7
# Bytes per value; the entries that we read have no other types.
_TYPE_SIZES = {_TYPE_BYTE: 1, _TYPE_ASCII: 1, _TYPE_LONG: 4, _TYPE_UNDEFINED: 1}
# Offsets in a block that we write: two directories, with two entries and one entry, followed by the texts.
_MAIN_OFFSET, _EXIF_IFD_OFFSET, _TEXTS_OFFSET = 8, 38, 56


def build_exif(line: str, ours: str, *, limit: int | None = None) -> bytes:
    """Return an EXIF block with its prefix.

    Above `limit` bytes, A1111's line is left out; our JSON contains the same parameters. The block is built by hand,
    since Pillow can't give a UserComment the type that A1111's own reader requires.
    """
    description, comment = ours.encode() + b"\0", _UNICODE_PREFIX + line.encode("utf-16-be")
    block = EXIF_PREFIX + struct.pack(
        ">2sHIH HHII HHII I H HHII I",
        *(b"MM", 42, _MAIN_OFFSET, 2),
        *(_TAG_DESCRIPTION, _TYPE_ASCII, len(description), _TEXTS_OFFSET),
        *(_TAG_EXIF_IFD, _TYPE_LONG, 1, _EXIF_IFD_OFFSET),
        *(0, 1),
        *(_TAG_USER_COMMENT, _TYPE_UNDEFINED, len(comment), _TEXTS_OFFSET + len(description)),
        0,
    )
    block += description + comment
    return build_exif("", ours) if limit is not None and len(block) > limit else block


def parse_exif(block: bytes) -> dict[str, str]:
    """Return the texts of an EXIF block by their names in a PNG; an empty block has none.

    Raises:
        InvalidImageError: the block is damaged.
    """
    if not block:
        return {}
    try:
        return _parse_texts(block)
    except (struct.error, UnicodeDecodeError):
        raise InvalidImageError("The image's EXIF data is damaged.") from None


def _parse_texts(block: bytes) -> dict[str, str]:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        raise InvalidImageError("The image's EXIF data is damaged.")
    (first,) = struct.unpack_from(f"{order}I", block, 4)
    main = _read_directory(block, order, first)
    found = {}
    if _TAG_EXIF_IFD in main:
        (part,) = struct.unpack_from(f"{order}I", main[_TAG_EXIF_IFD])
        comment = _read_directory(block, order, part).get(_TAG_USER_COMMENT, b"")
        found["parameters"] = _decode_comment(comment)
    description = main.get(_TAG_DESCRIPTION, b"").rstrip(b"\0")
    # Cameras and other programs write plain sentences here.
    if description.startswith(b"{"):
        found["diffusers-handler"] = description.decode()
    return found


def _read_directory(block: bytes, order: str, at: int) -> dict[int, bytes]:
    """Return the values of the entries in a directory that we use, by tag."""
    (count,) = struct.unpack_from(f"{order}H", block, at)
    entries = struct.iter_unpack(f"{order}HHI4s", _read_slice(block, at + 2, 12 * count))
    return {
        tag: _read_value(block, order, _TYPE_SIZES[kind] * many, inline)
        for tag, kind, many, inline in entries
        if tag in (_TAG_DESCRIPTION, _TAG_USER_COMMENT, _TAG_EXIF_IFD) and kind in _TYPE_SIZES
    }


def _read_value(block: bytes, order: str, size: int, inline: bytes) -> bytes:
    if size <= len(inline):
        return inline[:size]
    (at,) = struct.unpack(f"{order}I", inline)
    return _read_slice(block, at, size)


def _read_slice(block: bytes, at: int, size: int) -> bytes:
    if size > MAX_TEXT_BYTES or at + size > len(block):
        raise InvalidImageError("The image's EXIF data is damaged.")
    return block[at : at + size]


def _decode_comment(value: bytes) -> str:
    if value.startswith(_UNICODE_PREFIX):
        return value.removeprefix(_UNICODE_PREFIX).decode("utf-16-be")
    if value.startswith(_ASCII_PREFIX):
        return value.removeprefix(_ASCII_PREFIX).rstrip(b"\0").decode("ascii")
    return ""
