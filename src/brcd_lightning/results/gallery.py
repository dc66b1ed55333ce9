"""A picture of search: queries with their nearest images and their classes, relevant ones framed green, others red."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from brcd_lightning.data.names import label_text, printable, shortened
from brcd_lightning.data.splits import Splits
from brcd_lightning.metrics import relevance_of
from brcd_lightning.search import nearest_codes
from brcd_lightning.storage.atomic import atomic_path

HIT, MISS, QUERY = "#1a9641", "#d7191c", "#404040"
_STEP_X, _STEP_Y = 1.12, 1.62  # distance between cells of width and height 1; the rest is for the caption
_LONGEST_NAME = 12  # that fits below a cell
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
        splits: data set that holds the images. Captions name their classes, or their files if there are no labels.
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
    width, height = (top + 1) * _STEP_X, len(rows) * _STEP_Y  # of one panel, in cells
    figure = Figure(figsize=(0.55 * len(PARADIGMS) * width, 0.55 * height + 1.1), dpi=130, layout="constrained")
    green = "relevant" if splits.has_labels else f"one of {splits.relevance}"
    named = "class" if splits.has_labels else "file"
    figure.suptitle(
        f"{title}: nearest images in Hamming space\ngreen: {green}, red: not; captions: distance, {named}", fontsize=11
    )
    for axes, (name, (query_key, database_key)) in zip(
        figure.subplots(1, len(PARADIGMS)), PARADIGMS.items(), strict=True
    ):
        query_codes, query_labels = codes[query_key]
        database_codes, database_labels = codes[database_key]
        distances, positions = nearest_codes(query_codes[rows], database_codes, top)
        relevance = relevance_of(query_labels[rows], database_labels, positions)
        for row, (query, kind) in enumerate(kinds.items()):
            _draw(axes, 0, row, splits, int(splits.query[query]), QUERY, kind)
            for rank, (place, distance) in enumerate(
                zip(positions[row].tolist(), distances[row].tolist(), strict=True)
            ):
                color = HIT if relevance[row, rank] else MISS
                _draw(axes, rank + 1, row, splits, int(splits.database[place]), color, str(distance))
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axes.set_title(f"{name}: {relevance.float().mean():.0%} of these results are relevant", fontsize=11)
        axes.set_axis_off()
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


def _name(splits: Splits, position: int) -> str:
    """The classes of an image, or the name of its file in a data set without labels; a long one is shortened."""
    if splits.has_labels:
        return shortened(label_text(splits.source.labels[position], splits.source.classes), _LONGEST_NAME)
    name = printable(splits.source.ids[position].rpartition("/")[2])
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"  # numbers are at the end


def _draw(axes: Axes, column: int, row: int, splits: Splits, position: int, color: str, text: str) -> None:
    """Draws one framed image with its caption; a cell is one unit wide, the image keeps its shape inside it."""
    pixels = splits.source.load(position)
    left, top = column * _STEP_X, row * _STEP_Y + _STEP_Y - 1
    _, height, width = pixels.shape
    half_x, half_y = (width / max(width, height) / 2, height / max(width, height) / 2)
    extent = (left + 0.5 - half_x, left + 0.5 + half_x, top + 0.5 + half_y, top + 0.5 - half_y)
    axes.imshow(pixels.permute(1, 2, 0).numpy(), interpolation="nearest", extent=extent)
    axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=color, linewidth=2.5, clip_on=False))
    axes.text(left + 0.5, top - 0.29, text, ha="center", va="bottom", fontsize=8)
    axes.text(left + 0.5, top - 0.06, _name(splits, position), ha="center", va="bottom", fontsize=5.5, parse_math=False)
