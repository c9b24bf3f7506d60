"""An uploaded file becomes its pixels, or is refused before it costs anything."""

import io
import random
import struct
import zlib
from typing import Any

import pytest
from PIL import ExifTags, Image

from tasks_app.errors import InvalidImageError
from tasks_app.images import decoding
from tests.unit.images.test_containers import chunk

MOST = 64 * 64
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    return Image.effect_noise((48, 32), 60).convert(mode)


def decode(content: bytes) -> Image.Image:
    return decoding.decode_image(content, max_pixels=MOST)


def bare(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG that says it is so large, whatever it holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return SIGNATURE + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("PNG", "L"), ("PNG", "1"), ("WEBP", "RGB")])
def test_pictures_of_every_kind_become_rgb(kind: str, mode: str) -> None:
    drawn = noise(mode)
    got = decode(file(drawn, kind, lossless=True))
    assert got.mode == "RGB"
    assert got.tobytes() == drawn.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_taken_in_every_colour_space(mode: str) -> None:
    assert (decode(file(noise(mode), "JPEG")).mode, decode(file(noise(mode), "JPEG")).size) == ("RGB", (48, 32))


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 16, 32))
    got = decode(file(clear))
    assert (got.getpixel((0, 0)), got.getpixel((31, 31))) == ((0, 0, 255), (255, 255, 255))
    palette = Image.new("P", (32, 32))
    assert decode(file(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_of_gray_are_scaled() -> None:
    got = decode(file(Image.new("I;16", (32, 32), 0x8000)))
    assert got.getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright_as_its_exif_says(orientation: int) -> None:
    drawn, exif = noise(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    back = {1: 1, 6: 8, 8: 6}.get(orientation, orientation)
    turned = decode(file(drawn, exif=exif))
    exif[ExifTags.Base.Orientation] = back
    assert decode(file(turned, exif=exif)).tobytes() == drawn.tobytes()
    assert (turned.tobytes() == drawn.tobytes()) == (orientation == 1)


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    for kind in ("PNG", "WEBP"):
        got = decode(file(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True))
        assert got.getpixel((5, 5)) == (255, 0, 0), kind


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a PNG, JPEG or WebP"),
        (b"not a picture", "not a PNG, JPEG or WebP"),
        (file(noise(), "GIF"), "not a PNG, JPEG or WebP"),
        (file(noise(), "TIFF"), "not a PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG, JPEG or WebP"),
        (file(noise())[:-200], "damaged"),
        (file(noise(), "JPEG")[:-200], "damaged"),
        (file(noise(), "WEBP")[:-200], "damaged"),
        (bare(100, 50), "100 × 50 pixels; it must have at most 4096 in total"),
        (bare(2049, 32), "32 to 2048"),
        (bare(31, 64), "32 to 2048"),
        (bare(50_000, 50_000), "at most 4096"),
        (bare(2**31 - 1, 2**31 - 1), "at most 4096"),
    ],
    ids=[
        "empty",
        "text",
        "gif",
        "tiff",
        "svg",
        "cut-png",
        "cut-jpeg",
        "cut-webp",
        "many",
        "long",
        "short",
        "bomb",
        "huge",
    ],
)
def test_what_can_not_be_taken_is_refused_in_words(content: bytes, says: str) -> None:
    with pytest.raises(InvalidImageError, match=says):
        decode(content)


def test_more_data_than_pixels_is_not_unpacked() -> None:
    swollen = bare(32, 32, b"\0" * 50_000_000)
    assert decode(swollen).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_whatever_is_damaged_is_taken_or_refused() -> None:
    chance, exif = random.Random(4), Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.ImageDescription] = 6, "told"
    kinds = [("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGBA")]
    files = [file(noise(mode), kind, exif=exif) for kind, mode in kinds]
    outcomes = {"taken": 0, "refused": 0}
    for _ in range(3000):
        content = bytearray(chance.choice(files))
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(min(len(content), chance.choice((60, 400, 10_000))))] = chance.randrange(256)
        try:
            decode(_with_sums(bytes(content)))
            outcomes["taken"] += 1
        except InvalidImageError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100


def _with_sums(content: bytes) -> bytes:
    """Return a damaged PNG with its checksums made right again, so that more than those is looked at."""
    if not content.startswith(SIGNATURE):
        return content
    found, at = SIGNATURE, len(SIGNATURE)
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        found += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + size])
        at += 12 + size
    return found
