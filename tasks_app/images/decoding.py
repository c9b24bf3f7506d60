"""Decoding of image files to pixels; sizes are checked before pixels are decoded. Independent of Django."""

from __future__ import annotations

import io
import zlib

from PIL import ExifTags, Image
from PIL.Image import Transpose

from tasks_app.errors import InvalidImageError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
MIN_SIDE, MAX_SIDE = 32, 2048
# Raised by Pillow's formats for a damaged file or a file of another format.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, zlib.error)
# Transposition that turns an image upright, by EXIF orientation.
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
    """Return the image in a PNG, JPEG or WebP file as RGB, turned upright by its EXIF, on white if it is transparent.

    The format is detected from the bytes alone. Only the first frame is used.

    Raises:
        InvalidImageError: the file has another format or is damaged, or its sides or area are out of bounds.
    """
    try:
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
            _check_size(*image.size, max_pixels=max_pixels)
            return _rotate_upright(_flatten_image(image), image.getexif().get(ExifTags.Base.Orientation))
    except Image.DecompressionBombError:
        raise InvalidImageError(f"The image must have at most {max_pixels} pixels.") from None
    except DECODING_ERRORS as error:
        raise InvalidImageError("The file is damaged, or not a PNG, JPEG or WebP image.") from error


def _check_size(width: int, height: int, *, max_pixels: int) -> None:
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in (width, height)):
        raise InvalidImageError(
            f"The image has {width} × {height} pixels; each side must have {MIN_SIDE} to {MAX_SIDE}."
        )
    if width * height > max_pixels:
        raise InvalidImageError(f"The image has {width} × {height} pixels; it must have at most {max_pixels} in total.")


def _flatten_image(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit gray values to 8 bits instead of scaling them.
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _rotate_upright(image: Image.Image, orientation: object) -> Image.Image:
    # ImageOps.exif_transpose rewrites the whole EXIF and fails on errors elsewhere in it.
    method = _TRANSPOSE_BY_ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)
