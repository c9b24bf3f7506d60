"""Texts in files of all three formats: bounded, and whatever else the file is, an error in words."""

import io
import struct
import zlib
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tasks_app.contracts import ParsedMetadata
from tasks_app.engine.types import OutputFormat
from tasks_app.errors import InvalidImageError
from tasks_app.images import metadata
from tasks_app.images.metadata import containers, exif
from tests.unit.images.test_metadata import FORMATS, PICTURE, RECIPE, png

NAMES = {"parameters"}
WHOLE = {name: metadata.encode_image(PICTURE, name, RECIPE, seed=1) for name in get_args(OutputFormat)}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes) -> bytes:
    whole = png()
    header = len(containers.PNG_SIGNATURE) + 25
    return whole[:header] + b"".join(chunks) + whole[header:]


def read(content: bytes) -> ParsedMetadata | None:
    """Return what a file tells, None when it is refused in words; any other error is a defect."""
    try:
        return metadata.read_metadata(content)
    except InvalidImageError:
        return None


@pytest.mark.parametrize(
    "made",
    [
        chunk(b"tEXt", b"parameters\0a house"),
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a house")),
        chunk(b"iTXt", b"parameters\0\0\0en\0Parameter\0a house"),
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"a house")),
    ],
    ids=["tEXt", "zTXt", "iTXt", "iTXt compressed"],
)
def test_every_kind_of_text_chunk_is_read(made: bytes) -> None:
    assert containers.read_texts(with_chunks(chunk(b"tEXt", b"Title\0x"), made), NAMES) == {"parameters": "a house"}


def test_a_text_after_the_pixels_is_found() -> None:
    whole = png()
    content = whole[:-12] + chunk(b"tEXt", b"parameters\0a house") + whole[-12:]
    assert containers.read_texts(content, NAMES) == {"parameters": "a house"}


BOMB = zlib.compress(b"a" * 50_000_000)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (chunk(b"zTXt", b"parameters\0\0" + BOMB), "too long"),
        (chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB), "too long"),
        (chunk(b"tEXt", b"parameters\0" + b"a" * (exif.MAX_TEXT_BYTES + 1)), "too long"),
        (chunk(b"zTXt", b"parameters\0\0no zlib"), "damaged"),
        (chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a house")[:-2]), "damaged"),
        (chunk(b"iTXt", b"parameters\0\0\0\0\0\xff\xfe"), "damaged"),
        (chunk(b"tEXt", b"parameters\0a")[:-1] + b"x", "damaged"),
        (chunk(b"teSt", b"") * (containers.MAX_CHUNKS + 1), "too many"),
    ],
    ids=["bomb", "bomb in iTXt", "long", "no zlib", "cut zlib", "no UTF-8", "wrong checksum", "many chunks"],
)
def test_a_hostile_chunk_is_refused_in_words(made: bytes, words: str) -> None:
    with pytest.raises(InvalidImageError, match=words):
        containers.read_texts(with_chunks(made), NAMES)


@pytest.mark.parametrize("content", [b"", b"x", b"GIF89a", b"\x89PNG", b"\xff\xd8", b"RIFF\0\0\0\0WAVE"])
def test_another_kind_of_file_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(InvalidImageError, match="not a PNG, JPEG or WebP file"):
        containers.read_texts(content, NAMES)


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_a_file_that_is_cut_off_anywhere_is_refused(output_format: OutputFormat) -> None:
    whole = WHOLE[output_format]
    assert read(whole)
    assert not any(read(whole[:length]) for length in range(len(whole) - 1))


def test_a_jpeg_that_is_cut_off_before_its_pixels_is_refused() -> None:
    whole = WHOLE["jpeg"]
    begun = whole.index(exif.EXIF_PREFIX)
    assert not any(read(whole[:length]) for length in range(begun + len(exif.build_exif("", "")) + 1))


@given(output_format=st.sampled_from(FORMATS), at=st.integers(0, 1200), bits=st.integers(1, 255))
def test_a_damaged_file_is_read_or_refused_in_words(output_format: OutputFormat, at: int, bits: int) -> None:
    content = bytearray(WHOLE[output_format])
    content[at % len(content)] ^= bits
    read(bytes(content))


@given(
    st.binary(max_size=300), st.sampled_from([containers.PNG_SIGNATURE, b"\xff\xd8\xff\xe1", b"RIFF\x20\0\0\0WEBPEXIF"])
)
@example(b"\0" * 300, containers.PNG_SIGNATURE)
def test_anything_behind_a_signature_is_refused_in_words(rest: bytes, signature: bytes) -> None:
    read(signature + rest)


def test_a_picture_without_any_text_has_none() -> None:
    for output_format in ("JPEG", "WEBP"):
        buffer = io.BytesIO()
        PICTURE.save(buffer, format=output_format)
        assert containers.read_texts(buffer.getvalue(), NAMES) == {}


def test_a_jpeg_may_have_other_segments_before() -> None:
    buffer = io.BytesIO()
    told = exif.build_exif("a house", '{"x": 1}')
    PICTURE.save(buffer, format="JPEG", exif=told, comment=b"hello", icc_profile=b"x" * 100)
    assert containers.read_texts(buffer.getvalue(), NAMES)["parameters"] == "a house"
    with Image.open(buffer) as image:
        assert image.info["comment"] == b"hello"
