"""A page with pictures of what a search has found; it needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from torchvision.transforms.v2.functional import to_pil_image

from brcd_lightning.data.image_scan import read_image
from brcd_lightning.deployment.image_index.image_index import Found, ImageIndex
from brcd_lightning.storage.atomic import write_text

THUMBNAIL = 160
"""Longer side in pixels."""


def write_page(path: Path, index: ImageIndex, found: Mapping[str, Found], *, rescored: bool = False) -> None:
    """Writes an HTML page with each query and its hits.

    Args:
        path: of the page.
        index: that was searched.
        found: by the path of the query.
        rescored: whether hits are in the order of scores.
    """
    environment = Environment(
        loader=PackageLoader("brcd_lightning.deployment.image_index", "templates"),
        undefined=StrictUndefined,
        autoescape=True,
    )
    queries = [
        {
            "name": Path(query).name,
            "picture": data_uri(Path(query)),
            "found": each,
            "hits": [(hit, data_uri(index.root / hit.path)) for hit in each.hits],
        }
        for query, each in found.items()
    ]
    page = environment.get_template("results.html").render(
        queries=queries, bits=index.manifest.bits, count=len(index), rescored=rescored
    )
    write_text(path, page)


def thumbnail(path: Path, size: int = THUMBNAIL) -> bytes | None:
    """A JPEG of at most `size` pixels a side; None for an image that is gone or damaged."""
    try:
        image = to_pil_image(read_image(path))
    except Exception:  # PIL's plugins raise many kinds; each means that there is nothing to show
        return None
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def data_uri(path: Path) -> str | None:
    """`thumbnail` as the address of a picture inside a page."""
    content = thumbnail(path)
    return None if content is None else f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
