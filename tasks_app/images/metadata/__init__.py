"""What a picture's file tells of how it was made: written by the storage, read back from uploads. Knows no Django.

A PNG has two text chunks, A1111's `parameters` and our own JSON; JPEG and WebP have the same in EXIF. Neither task nor
time is in there, so that equal runs make equal bytes.
"""

from __future__ import annotations

import io
import json
import math
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasks_app.contracts import Recipe, Recovered
from tasks_app.engine.types import OutputFormat
from tasks_app.errors import UnreadablePicture
from tasks_app.images.metadata import containers, exif, infotext

OURS = "diffusers-handler"
A1111 = "parameters"
JPEG_QUALITY, WEBP_QUALITY = 95, 90


def encode(image: Image.Image, output_format: OutputFormat, recipe: Recipe, *, seed: int) -> bytes:
    """Return a picture's file; `seed` is the picture's own.

    Raises:
        OSError: the format can't hold such an image.
    """
    params = {**recipe.params, "seed": seed, "num_images": 1, "width": image.width, "height": image.height}
    line, ours = infotext.write(params, recipe), _json(params, recipe)
    buffer = io.BytesIO()
    if output_format == "png":
        chunks = PngInfo()
        chunks.add_text(A1111, line)
        chunks.add_text(OURS, ours)
        image.save(buffer, format="PNG", pnginfo=chunks)
    elif output_format == "jpeg":
        told = exif.write(line, ours, limit=exif.MAX_IN_JPEG)
        image.convert("RGB").save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0, exif=told)
    else:
        image.save(buffer, format="WEBP", quality=WEBP_QUALITY, method=4, exif=exif.write(line, ours))
    return buffer.getvalue()


def read(content: bytes) -> Recovered:
    """Return the parameters that a PNG, JPEG or WebP file tells, our own before A1111's; no pixel is decoded.

    Raises:
        UnreadablePicture: it is no such file, is damaged, or tells nothing.
    """
    texts = containers.texts(content, {A1111, OURS})
    if ours := texts.get(OURS, ""):
        return _recovered(ours)
    if line := texts.get(A1111, ""):
        return infotext.read(line)
    raise UnreadablePicture("The picture doesn't tell how it was made.")


def text(content: bytes) -> str:
    """Return A1111's infotext of a PNG, JPEG or WebP file; empty when it has none.

    Raises:
        UnreadablePicture: it is no such file, or is damaged.
    """
    return containers.texts(content, {A1111}).get(A1111, "")


def _json(params: dict[str, Any], recipe: Recipe) -> str:
    told = {
        "task_type": recipe.task_type,
        "params": params,
        "model": {"id": recipe.model_id, "revision": recipe.revision},
        "made_by": dict(recipe.provenance),
    }
    return json.dumps(told, ensure_ascii=False, sort_keys=True)


def _recovered(text: str) -> Recovered:
    """Return what our own JSON says; somebody else may have written it."""
    try:
        told = json.loads(text)
        text.encode()
        json.dumps(told, ensure_ascii=False).encode()  # no escaped lone surrogate
        task_type, params = told["task_type"], told["params"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UnreadablePicture("The picture's parameters are damaged.") from None
    if not isinstance(task_type, str) or not isinstance(params, dict) or not all(map(_is_kept, params.values())):
        raise UnreadablePicture("The picture's parameters are damaged.")
    return Recovered(source="diffusers-handler", task_type=task_type, params=params)


def _is_kept(value: Any) -> bool:
    """Return whether it is what parameters consist of: a plain value, or a list of those and of objects with such."""
    return all(map(_is_item, value)) if isinstance(value, list) else _is_plain(value)


def _is_item(value: Any) -> bool:
    return all(map(_is_plain, value.values())) if isinstance(value, dict) else _is_plain(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
