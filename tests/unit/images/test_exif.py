"""The two texts in EXIF: in both orders of bytes, in foreign blocks, in damaged ones."""

import piexif
import piexif.helper
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks_app.errors import InvalidImageError
from tasks_app.images.metadata import exif


def block(line: str = "a house", ours: str = '{"x": 1}') -> bytes:
    return exif.build_exif(line, ours).removeprefix(exif.EXIF_PREFIX)


@given(st.text(), st.text().map(lambda text: '{"x": ' + text.replace("\0", "")))
def test_both_texts_come_back(line: str, ours: str) -> None:
    assert exif.parse_exif(block(line, ours)) == {"parameters": line, "diffusers-handler": ours}


def test_over_the_limit_a1111s_line_is_left_out() -> None:
    whole = exif.build_exif("a house", '{"x": 1}')
    assert exif.build_exif("a house", '{"x": 1}', limit=len(whole)) == whole
    short = exif.build_exif("a house", '{"x": 1}', limit=len(whole) - 1)
    assert exif.parse_exif(short.removeprefix(exif.EXIF_PREFIX)) == {"parameters": "", "diffusers-handler": '{"x": 1}'}


@pytest.mark.parametrize("encoding", ["unicode", "ascii"])
def test_what_a1111_writes_is_read(encoding: str) -> None:
    comment = piexif.helper.UserComment.dump("a house", encoding=encoding)
    foreign = {"0th": {piexif.ImageIFD.ImageDescription: b"At the sea"}, "Exif": {piexif.ExifIFD.UserComment: comment}}
    assert exif.parse_exif(piexif.dump(foreign).removeprefix(exif.EXIF_PREFIX)) == {"parameters": "a house"}


def test_the_other_order_of_bytes_is_read() -> None:
    little = Image.Exif()
    little.endian = "<"
    little.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a house"
    written = little.tobytes().removeprefix(exif.EXIF_PREFIX)
    assert written[:2] == b"II"
    assert exif.parse_exif(written) == {"parameters": "a house"}


@pytest.mark.parametrize(
    "damaged", [b"x", b"MM", b"MM\0*\xff\xff\xff\xff", block()[:-1], block()[:40], b"XX" + block()[2:]]
)
def test_a_damaged_block_is_refused_in_words(damaged: bytes) -> None:
    with pytest.raises(InvalidImageError, match="EXIF data is damaged"):
        exif.parse_exif(damaged)
