"""A picture of search: queries with their nearest images, hits framed green and misses red."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from brcd_lightning.data.splits import Splits
from brcd_lightning.files import atomic_path
from brcd_lightning.metrics import relevance_of
from brcd_lightning.search import nearest_codes

HIT, MISS, QUERY = "#1a9641", "#d7191c", "#404040"
PARADIGMS = {"SSHP": ("student_query", "student_database"), "ASHP": ("student_query", "teacher_database")}


def save_gallery(
    path: Path,
    splits: Splits,
    codes: Mapping[str, tuple[Tensor, Tensor]],
    title: str,
    num_queries: int = 8,
    top: int = 10,
) -> None:
    """Writes a PNG with the same queries under SSHP and ASHP.

    Args:
        path: target file.
        splits: where the images are.
        codes: codes and labels by ``<encoder>_<side>``, as `DistillationModule.codes`.
        title: printed above the picture.
        num_queries: rows; queries at even distances through the query split.
        top: results per query and paradigm.
    """
    labels = codes["student_query"][1]
    rows = torch.linspace(0, len(labels) - 1, min(num_queries, len(labels))).round().long().unique()
    top = min(top, len(codes["student_database"][0]))
    figure = Figure(figsize=(0.62 * (2 * top + 4), 0.72 * len(rows) + 1.1), dpi=130, layout="constrained")
    figure.suptitle(
        f"{title}: nearest images in Hamming space (green: relevant, red: not, number: distance)", fontsize=11
    )
    panels = figure.subfigures(1, len(PARADIGMS), wspace=0.03)
    for panel, (name, (query_key, database_key)) in zip(panels, PARADIGMS.items(), strict=True):
        query_codes, query_labels = codes[query_key]
        database_codes, database_labels = codes[database_key]
        distances, positions = nearest_codes(query_codes[rows], database_codes, top)
        relevance = relevance_of(query_labels[rows], database_labels, positions)
        panel.suptitle(f"{name}: {relevance.float().mean():.0%} of these results are relevant", fontsize=10)
        axes = panel.subplots(len(rows), top + 1, squeeze=False)
        for row, query in enumerate(rows.tolist()):
            _show(axes[row, 0], splits.source.load(int(splits.query[query])), QUERY, "query" if row == 0 else "")
            for rank in range(top):
                image = splits.source.load(int(splits.database[positions[row, rank]]))
                color = HIT if relevance[row, rank] else MISS
                _show(axes[row, rank + 1], image, color, str(int(distances[row, rank])))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _show(axes: Axes, pixels: Tensor, color: str, text: str) -> None:
    axes.imshow(pixels.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(color)
        spine.set_linewidth(2.5)
    axes.set_title(text, fontsize=7, pad=2)
