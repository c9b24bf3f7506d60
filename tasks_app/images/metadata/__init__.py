"""Generation metadata in image files: written when images are stored, read from uploads. Independent of Django.

A PNG has two text chunks, A1111's `parameters` and our own JSON; JPEG and WebP have the same in EXIF. Neither the task
nor the time is included, so that equal runs produce equal bytes.
"""

from __future__ import annotations

import io
import json
import math
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasks_app.contracts import GenerationMetadata, ParsedMetadata
from tasks_app.engine.types import OutputFormat
from tasks_app.errors import InvalidImageError
from tasks_app.images.metadata import containers, exif, infotext

OWN_CHUNK = "diffusers-handler"
A1111_CHUNK = "parameters"
JPEG_QUALITY, WEBP_QUALITY = 95, 90


def encode_image(image: Image.Image, output_format: OutputFormat, recipe: GenerationMetadata, *, seed: int) -> bytes:
    """Return the encoded file of an image; `seed` is the image's own.

    Raises:
        OSError: the format can't store such an image.
    """
    params = {**recipe.params, "seed": seed, "num_images": 1, "width": image.width, "height": image.height}
    line, ours = infotext.format_infotext(params, recipe), _build_json(params, recipe)
    buffer = io.BytesIO()
    if output_format == "png":
        chunks = PngInfo()
        chunks.add_text(A1111_CHUNK, line)
        chunks.add_text(OWN_CHUNK, ours)
        image.save(buffer, format="PNG", pnginfo=chunks)
    elif output_format == "jpeg":
        told = exif.build_exif(line, ours, limit=exif.MAX_JPEG_BYTES)
        image.convert("RGB").save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0, exif=told)
    else:
        image.save(buffer, format="WEBP", quality=WEBP_QUALITY, method=4, exif=exif.build_exif(line, ours))
    return buffer.getvalue()


def read_metadata(content: bytes) -> ParsedMetadata:
    """Return the parameters in a PNG, JPEG or WebP file, from our own JSON or else from A1111's infotext.

    No pixels are decoded.

    Raises:
        InvalidImageError: the file has another format, is damaged, or contains no parameters.
    """
    texts = containers.read_texts(content, {A1111_CHUNK, OWN_CHUNK})
    if ours := texts.get(OWN_CHUNK, ""):
        return _parse_json(ours)
    if line := texts.get(A1111_CHUNK, ""):
        return infotext.parse_infotext(line)
    raise InvalidImageError("The image contains no generation parameters.")


def read_infotext(content: bytes) -> str:
    """Return A1111's infotext of a PNG, JPEG or WebP file; empty if it has none.

    Raises:
        InvalidImageError: the file has another format, or is damaged.
    """
    return containers.read_texts(content, {A1111_CHUNK}).get(A1111_CHUNK, "")


def _build_json(params: dict[str, Any], recipe: GenerationMetadata) -> str:
    told = {
        "task_type": recipe.task_type,
        "params": params,
        "model": {"id": recipe.model_id, "revision": recipe.revision},
        "made_by": dict(recipe.provenance),
    }
    return json.dumps(told, ensure_ascii=False, sort_keys=True)


def _parse_json(text: str) -> ParsedMetadata:
    """Parse our own JSON; it is untrusted, since any program may have written it."""
    try:
        told = json.loads(text)
        text.encode()
        json.dumps(told, ensure_ascii=False).encode()  # rejects escaped lone surrogates
        task_type, params = told["task_type"], told["params"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidImageError("The image's generation parameters are damaged.") from None
    if not isinstance(task_type, str) or not isinstance(params, dict) or not all(map(_is_valid_param, params.values())):
        raise InvalidImageError("The image's generation parameters are damaged.")
    return ParsedMetadata(source="diffusers-handler", task_type=task_type, params=params)


def _is_valid_param(value: Any) -> bool:
    """Return whether the value is plain, or a list of plain values and objects with plain values."""
    return all(map(_is_valid_item, value)) if isinstance(value, list) else _is_plain_value(value)


def _is_valid_item(value: Any) -> bool:
    return all(map(_is_plain_value, value.values())) if isinstance(value, dict) else _is_plain_value(value)


def _is_plain_value(value: Any) -> bool:
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
