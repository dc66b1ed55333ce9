"""Thumbnails of image files, for web pages."""

from __future__ import annotations

import io
from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

from brcd_lightning.data.image_scan import read_image

SIZE = 160
"""Longer side in pixels."""


def thumbnail(path: Path, size: int = SIZE) -> bytes | None:
    """Returns a JPEG of at most `size` pixels per side, or None if the image is missing or damaged."""
    try:
        image = to_pil_image(read_image(path))
    except Exception:  # PIL's plugins raise many types; each means that there is nothing to show
        return None
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
