"""Two texts in EXIF: A1111's line where A1111 has it, in UserComment, and our JSON in ImageDescription, in UTF-8."""

from __future__ import annotations

import struct

from tasks_app.errors import UnreadablePicture

PREFIX = b"Exif\0\0"
MAX_TEXT = 256 * 1024
# A JPEG's segment has 16 bits for its length, which counts itself.
MAX_IN_JPEG = 2**16 - 1 - 2
_DESCRIPTION, _USER_COMMENT, _EXIF_PART = 0x010E, 0x9286, 0x8769
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"
_TYPE_BYTE, _TYPE_ASCII, _TYPE_LONG, _TYPE_UNDEFINED = 1, 2, 4, 7
# Sizes of one value; texts have no other types.
_SIZES = {_TYPE_BYTE: 1, _TYPE_ASCII: 1, _TYPE_LONG: 4, _TYPE_UNDEFINED: 1}
# Where things lie in a block that we write: two directories, of two entries and of one, and the texts behind them.
_MAIN_AT, _PART_AT, _TEXTS_AT = 8, 38, 56


def write(line: str, ours: str, *, limit: int | None = None) -> bytes:
    """Return an EXIF block with its prefix; over the limit it goes without A1111's line, which our JSON contains.

    By hand: Pillow can't give a UserComment the type that A1111's own reader insists on.
    """
    description, comment = ours.encode() + b"\0", _UNICODE + line.encode("utf-16-be")
    block = PREFIX + struct.pack(
        ">2sHIH HHII HHII I H HHII I",
        *(b"MM", 42, _MAIN_AT, 2),
        *(_DESCRIPTION, _TYPE_ASCII, len(description), _TEXTS_AT),
        *(_EXIF_PART, _TYPE_LONG, 1, _PART_AT),
        *(0, 1),
        *(_USER_COMMENT, _TYPE_UNDEFINED, len(comment), _TEXTS_AT + len(description)),
        0,
    )
    block += description + comment
    return write("", ours) if limit is not None and len(block) > limit else block


def read(block: bytes) -> dict[str, str]:
    """Return the texts of an EXIF block by the names that a PNG has them under; an empty block has none.

    Raises:
        UnreadablePicture: the block is damaged.
    """
    if not block:
        return {}
    try:
        return _texts(block)
    except (struct.error, UnicodeDecodeError):
        raise UnreadablePicture("The picture's EXIF is damaged.") from None


def _texts(block: bytes) -> dict[str, str]:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        raise UnreadablePicture("The picture's EXIF is damaged.")
    (first,) = struct.unpack_from(f"{order}I", block, 4)
    main = _directory(block, order, first)
    found = {}
    if _EXIF_PART in main:
        (part,) = struct.unpack_from(f"{order}I", main[_EXIF_PART])
        comment = _directory(block, order, part).get(_USER_COMMENT, b"")
        found["parameters"] = _comment(comment)
    description = main.get(_DESCRIPTION, b"").rstrip(b"\0")
    # Cameras and other programs write sentences there.
    if description.startswith(b"{"):
        found["diffusers-handler"] = description.decode()
    return found


def _directory(block: bytes, order: str, at: int) -> dict[int, bytes]:
    """Return the values of those entries of a directory that are ours to read."""
    (count,) = struct.unpack_from(f"{order}H", block, at)
    entries = struct.iter_unpack(f"{order}HHI4s", _slice(block, at + 2, 12 * count))
    return {
        tag: _value(block, order, _SIZES[kind] * many, inline)
        for tag, kind, many, inline in entries
        if tag in (_DESCRIPTION, _USER_COMMENT, _EXIF_PART) and kind in _SIZES
    }


def _value(block: bytes, order: str, size: int, inline: bytes) -> bytes:
    if size <= len(inline):
        return inline[:size]
    (at,) = struct.unpack(f"{order}I", inline)
    return _slice(block, at, size)


def _slice(block: bytes, at: int, size: int) -> bytes:
    if size > MAX_TEXT or at + size > len(block):
        raise UnreadablePicture("The picture's EXIF is damaged.")
    return block[at : at + size]


def _comment(value: bytes) -> str:
    if value.startswith(_UNICODE):
        return value.removeprefix(_UNICODE).decode("utf-16-be")
    if value.startswith(_ASCII):
        return value.removeprefix(_ASCII).rstrip(b"\0").decode("ascii")
    return ""
