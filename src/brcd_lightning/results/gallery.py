"""A picture of search: queries with their nearest images, relevant ones framed green and others red."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform
from torch import Tensor
from torch.nn.functional import interpolate

from brcd_lightning.data.splits import Splits
from brcd_lightning.metrics import relevance_of
from brcd_lightning.search import nearest_codes
from brcd_lightning.storage.atomic import atomic_path

HIT, MISS, QUERY = "#1a9641", "#d7191c", "#404040"
# Pixels. The images are put together as an array, because matplotlib takes a second to draw hundreds of them.
_SIDE, _LINE = 72, 4  # of a framed image and of its frame
_STEP_X, _STEP_Y = 80, 102  # between framed images; the rest is for the caption
_ABOVE, _DPI = 120, 130  # space for the titles
PARADIGMS = {"SSHP": ("student_query", "student_database"), "ASHP": ("student_query", "teacher_database")}


def save_gallery(
    path: Path,
    splits: Splits,
    codes: Mapping[str, tuple[Tensor, Tensor]],
    scores: Tensor,
    title: str,
    num_queries: int = 9,
    top: int = 10,
) -> None:
    """Writes a PNG with the same queries under SSHP and ASHP: the best ones, some drawn at random, and the worst.

    Args:
        path: target file.
        splits: data set that holds the images.
        codes: codes and labels by ``<encoder>_<side>``, as `DistillationModule.codes`.
        scores: (Q,) how well each query is answered, such as its average precision.
        title: printed above the picture.
        num_queries: rows, a third of each kind.
        top: results per query and paradigm.
    """
    labels = codes["student_query"][1]
    kinds = choose_queries(scores, min(num_queries, len(labels)))
    rows = torch.tensor(list(kinds))
    top = min(top, len(codes["student_database"][0]))
    width, height = len(PARADIGMS) * (top + 2) * _STEP_X, _ABOVE + len(rows) * _STEP_Y
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    canvas = torch.full((3, height, width), 255, dtype=torch.uint8)
    green = "relevant" if splits.has_labels else f"one of {splits.relevance}"
    figure.suptitle(f"{title}: nearest images in Hamming space (green: {green}, red: not, number: distance)")
    for panel, (name, (query_key, database_key)) in enumerate(PARADIGMS.items()):
        query_codes, query_labels = codes[query_key]
        database_codes, database_labels = codes[database_key]
        distances, positions = nearest_codes(query_codes[rows], database_codes, top)
        relevance = relevance_of(query_labels[rows], database_labels, positions)
        first = panel * (top + 2)
        for row, (query, kind) in enumerate(kinds.items()):
            _draw(figure, canvas, first, row, splits.source.load(int(splits.query[query])), QUERY, kind)
            for rank, (place, distance) in enumerate(
                zip(positions[row].tolist(), distances[row].tolist(), strict=True)
            ):
                image = splits.source.load(int(splits.database[place]))
                color = HIT if relevance[row, rank] else MISS
                _draw(figure, canvas, first + rank + 1, row, image, color, str(distance))
        about = f"{name}: {relevance.float().mean():.0%} of these results are relevant"
        _write(figure, (first + (top + 2) / 2) * _STEP_X, _ABOVE - 35, about, 11)
    figure.figimage(canvas.permute(1, 2, 0).numpy())
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def choose_queries(scores: Tensor, count: int) -> dict[int, str]:
    """Positions of queries and why they are shown: ``best``, ``random`` or ``worst``; of equal scores the first ones.

    Args:
        scores: (Q,) how well each query is answered.
        count: number of queries, at most Q; a third of each kind.
    """
    order = scores.argsort(descending=True, stable=True).tolist()
    third = -(-count // 3)
    best, worst = order[:third], order[::-1][: min(third, count - third)]
    others = [query for query in order if query not in {*best, *worst}]
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))[: count - len(best) - len(worst)]
    kinds = dict.fromkeys(best, "best") | {others[place]: "random" for place in drawn.tolist()}
    return kinds | dict.fromkeys(reversed(worst), "worst")


def _draw(figure: Figure, canvas: Tensor, column: int, row: int, pixels: Tensor, color: str, text: str) -> None:
    """Puts one framed image on the canvas (3, H, W) and its caption above it; the image keeps its shape."""
    left, top = column * _STEP_X + _STEP_X // 2, _ABOVE + row * _STEP_Y
    frame = canvas[:, top : top + _SIDE, left : left + _SIDE]
    frame[:] = (255 * torch.tensor(to_rgb(color))).round()[:, None, None]
    inside = frame[:, _LINE:-_LINE, _LINE:-_LINE]
    inside[:] = 255
    scale = inside.shape[1] / max(pixels.shape[1:])
    height, width = (max(1, round(scale * side)) for side in pixels.shape[1:])
    y, x = ((inside.shape[1] - side) // 2 for side in (height, width))
    inside[:, y : y + height, x : x + width] = interpolate(pixels[None], (height, width), mode="nearest-exact")[0]
    _write(figure, left + _SIDE / 2, top - 4, text, 8)


def _write(figure: Figure, x: float, y: float, text: str, size: int) -> None:
    """Writes text that ends y pixels below the upper edge, centred at x."""
    above = figure.bbox.height - y
    figure.text(x, above, text, fontsize=size, ha="center", va="bottom", transform=IdentityTransform())
