"""A picture's file -> nothing but its pixels, bounded before any of them is decoded. Knows no Django."""

from __future__ import annotations

import io
import zlib

from PIL import ExifTags, Image
from PIL.Image import Transpose

from tasks_app.errors import InvalidImageError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
MIN_SIDE, MAX_SIDE = 32, 2048
# What Pillow's formats raise for a file that is none of theirs or is damaged.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, zlib.error)
# What makes a picture upright, by what its EXIF calls its orientation.
_TRANSPOSE_BY_ORIENTATION = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def decode_image(content: bytes, *, max_pixels: int) -> Image.Image:
    """Return the picture of a PNG, JPEG or WebP file: RGB, upright as its EXIF says, on white where it is transparent.

    The bytes alone say what it is. Of several frames the first counts.

    Raises:
        UnreadablePicture: it is no such file, is damaged, or has sides or an area that are not taken.
    """
    try:
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
            _check_size(*image.size, max_pixels=max_pixels)
            return _rotate_upright(_flatten_image(image), image.getexif().get(ExifTags.Base.Orientation))
    except Image.DecompressionBombError:
        raise InvalidImageError(f"The picture may have at most {max_pixels} pixels.") from None
    except DECODING_ERRORS as error:
        raise InvalidImageError("The picture is no PNG, JPEG or WebP file, or is damaged.") from error


def _check_size(width: int, height: int, *, max_pixels: int) -> None:
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in (width, height)):
        raise InvalidImageError(
            f"The picture has {width} × {height} pixels; each side must have {MIN_SIDE} to {MAX_SIDE}."
        )
    if width * height > max_pixels:
        raise InvalidImageError(f"The picture has {width} × {height} pixels; it may have at most {max_pixels}.")


def _flatten_image(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits of gray to 8 instead of scaling them.
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _rotate_upright(image: Image.Image, orientation: object) -> Image.Image:
    # Not ImageOps.exif_transpose, which writes all of the EXIF anew and fails at what is wrong elsewhere in there.
    method = _TRANSPOSE_BY_ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)
