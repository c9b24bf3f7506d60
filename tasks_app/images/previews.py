"""Preview images, encoded so that a browser can show them directly."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

WEBP_QUALITY = 80


def encode_preview(image: Image) -> dict[str, Any]:
    """Return the image's size in pixels and its WebP bytes as a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=WEBP_QUALITY)
    content = base64.b64encode(buffer.getvalue()).decode()
    return {"width": image.width, "height": image.height, "src": f"data:image/webp;base64,{content}"}
