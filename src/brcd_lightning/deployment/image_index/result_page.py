"""A self-contained HTML page with the pictures of search results."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from brcd_lightning.deployment.encoding.thumbnails import thumbnail
from brcd_lightning.deployment.image_index.searched import Found, SearchedImages
from brcd_lightning.storage.atomic import write_text


def write_page(path: Path, index: SearchedImages, found: Mapping[str, Found], *, rescored: bool = False) -> None:
    """Writes an HTML page with each query and its hits.

    Args:
        path: of the page.
        index: that was searched.
        found: results by the path of the query.
        rescored: whether hits are sorted by score.
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
        queries=queries, bits=index.bits, count=len(index), exact=index.exact, rescored=rescored
    )
    write_text(path, page)


def data_uri(path: Path) -> str | None:
    """Returns the `thumbnail` of an image as a data URI, or None if there is none."""
    content = thumbnail(path)
    return None if content is None else f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
