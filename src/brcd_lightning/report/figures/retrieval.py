"""Retrieval quality: precision and recall, mAP by class, and the confusion of classes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from brcd_lightning.data.names import shortened
from brcd_lightning.metrics import average_precisions, distance_histograms, precision_recall_by_radius
from brcd_lightning.report.catalog import FOUND, figure
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import Run, require_labels
from brcd_lightning.report.saved_codes import Side, memberships
from brcd_lightning.report.style import axis_limit, bars, legend_below, line_look, new_figure, panels
from brcd_lightning.results.summary_table import PARADIGMS
from brcd_lightning.search import nearest_codes

_QUERIES = 500
_SHOWN_CLASSES, _RETRIEVED = 20, 100
_LONGEST_NAME = 24
_DATABASES = {"sshp": "student", "ashp": "teacher"}


@figure("precision_recall", section=FOUND, order=1, caption="Precision and recall within every Hamming radius")
def precision_recall(records: Records) -> Figure:
    """Precision and recall within every Hamming radius, for every method."""
    cells = records.reference()
    first = next(iter(cells.values())).first
    drawing = new_figure(f"Precision and recall by Hamming radius: {_named(first)}", height=3.5)
    axes = panels(drawing, columns=2, sharey=True)
    largest: list[float] = []
    for panel, paradigm in zip(axes, PARADIGMS, strict=True):
        for number, (label, cell) in enumerate(cells.items()):
            queries, database = _sides(cell.first, paradigm)
            counts = distance_histograms(
                queries.packed, database.packed, queries.labels, database.labels, bits=cell.first.row["bits"]
            )
            curve = precision_recall_by_radius(counts)
            panel.plot(curve.recall, curve.precision, label=label, markevery=0.15, **line_look(number))
            largest.append(curve.precision.max().item())
        panel.set(title=paradigm.upper(), xlabel="recall", ylabel="precision", xlim=(0, 1))
    axes[0].set_ylim(0, axis_limit(largest))  # of both panels
    legend_below(drawing, axes[0])
    return drawing


@figure("classes", section=FOUND, order=2, caption="mAP of each class")
def classes(records: Records) -> Figure:
    """Draws mAP of the queries of each class, for the best student and its teacher."""
    run = best_run(records)
    require_labels(run)
    scores: dict[str, list[float | None]] = {}
    for name, (encoder, database) in {
        "teacher": ("teacher", "teacher"),
        "student, SSHP": ("student", "student"),
        "student, ASHP": ("student", "teacher"),
    }.items():
        queries, items = run.codes(encoder, "query").sample(_QUERIES), run.codes(database, "database")
        each = average_precisions(
            queries.packed, items.packed, queries.labels, items.labels, k=run.results["metric_protocol"]["k"]
        )
        members = memberships(queries.labels)[:, :_SHOWN_CLASSES]
        scores[name] = [each[rows > 0].mean().item() if bool(rows.any()) else None for rows in members.T]
    names = _class_names(run, len(scores["teacher"]))
    drawing = new_figure(f"Classes by themselves, {records.label(run)}: {_named(run)}", height=1.3 + 0.36 * len(names))
    (panel,) = panels(drawing)
    bars(panel, names, scores)
    panel.set(
        xlabel=f"mAP@{run.results['metric_protocol']['k']}",
        ylabel=f"class of the query{_cut(queries.labels)}",
        xlim=(0, axis_limit(value for values in scores.values() for value in values)),
    )
    legend_below(drawing, panel)
    return drawing


@figure("confusion", section=FOUND, order=3, caption="Classes of the results by the class of the query")
def confusion(records: Records) -> Figure:
    """Classes of the nearest images by the class of the query, for the best student."""
    run = best_run(records)
    require_labels(run)
    sides = {paradigm: _sides(run, paradigm) for paradigm in PARADIGMS}
    k = min(_RETRIEVED, len(sides["sshp"][1].packed))
    shares = {paradigm: _class_shares(*each, k) for paradigm, each in sides.items()}
    limit = axis_limit(share.max().item() for share in shares.values())
    shown = len(shares["sshp"])
    names = _class_names(run, shown)
    named = names != [str(label) for label in range(shown)]
    title = f"Classes of the nearest images, {records.label(run)}: {_named(run)}"
    drawing = new_figure(title, width=9.5 if named else 8.5, height=4.8 if named else 4.2)
    axes = panels(drawing, columns=2)
    for panel, (paradigm, share) in zip(axes, shares.items(), strict=True):
        image = panel.imshow(share.numpy(), cmap="cividis", vmin=0, vmax=limit)
        panel.set(
            title=f"{paradigm.upper()}, {k} nearest",
            xlabel="class of the result",
            ylabel=f"class of the query{_cut(sides[paradigm][0].labels)}",
        )
        panel.set_xticks(range(share.shape[1]), _class_names(run, share.shape[1]), rotation=90 if named else 0)
        panel.set_yticks(range(shown), names)
        panel.tick_params(labelsize=7)
        panel.grid(visible=False)
        for (row, column), value in np.ndenumerate(share.numpy()) if shown <= 10 else ():
            shade = "black" if value > limit / 2 else "white"
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=shade)
    drawing.colorbar(image, ax=axes, label="share of results", shrink=0.8)
    return drawing


def _class_shares(queries: Side, database: Side, k: int) -> Tensor:
    """Mean share (C, C) of each class among the `k` nearest images of the queries of each class."""
    _, places = nearest_codes(queries.packed, database.packed, k)
    asked, found = memberships(queries.labels), memberships(database.labels)[places].double().mean(dim=1)
    share = (asked.double().T @ found) / asked.sum(dim=0).clamp_min(1)[:, None]
    return share[:_SHOWN_CLASSES, :_SHOWN_CLASSES]


def _class_names(run: Run, count: int) -> list[str]:
    return [shortened(name, _LONGEST_NAME) for name in run.class_names(count)]


def best_run(records: Records) -> Run:
    """The run of the reference with the best validation."""
    cells = list(records.reference().values())
    cells = [cell for cell in cells if cell.first.distils] or cells
    return max(cells, key=lambda cell: cell.validation).first


def _sides(run: Run, paradigm: str) -> tuple[Side, Side]:
    return run.codes("student", "query").sample(_QUERIES), run.codes(_DATABASES[paradigm], "database")


def _cut(labels: Tensor) -> str:
    count = memberships(labels).shape[1]
    return f" (the first {_SHOWN_CLASSES} of {count})" if count > _SHOWN_CLASSES else ""


def _named(run: Run) -> str:
    return f"{run.row['dataset']}, {run.row['bits']} bits"
