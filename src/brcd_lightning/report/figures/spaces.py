"""Agreement of student and teacher in Hamming space: Figs. 5a and 7 of the paper."""

from __future__ import annotations

import statistics

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from brcd_lightning.codes import as_signs
from brcd_lightning.data.names import shortened
from brcd_lightning.metrics import individual_sample_distance, neighbor_relevance_accuracy
from brcd_lightning.report.catalog import SPACES, figure
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import Run, UnfilledError, require_labels
from brcd_lightning.report.style import bar_look, new_figure, panels

_IMAGES, _NEIGHBORS = 2000, 100
_POINTS, _CLASSES, _FEWEST = 300, 10, 4
_LONGEST_NAME = 16


@figure("alignment", section=SPACES, order=1, caption="ISD and NRA of every method (Fig. 5a)")
def alignment(records: Records) -> Figure:
    """Fig. 5a: ISD, Eq. (12), and NRA@100, Eq. (13), of test queries for every method, mean over seeds."""
    cells = records.reference()
    first = next(iter(cells.values())).first
    require_labels(first)
    measured = {label: [_agreement(run) for run in cell.runs] for label, cell in cells.items()}
    order = sorted(measured, key=lambda label: -statistics.fmean(isd for isd, _ in measured[label]))
    drawing = new_figure(
        f"Agreement of student and teacher: {first.row['dataset']}, {first.row['bits']} bits",
        height=1.5 + 0.25 * len(order),
    )
    distance, relevance = panels(drawing, columns=2, sharey=True)
    for panel, place in ((distance, 0), (relevance, 1)):
        values = [[pair[place] for pair in measured[label]] for label in order]
        spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values]
        means = [statistics.fmean(each) for each in values]
        panel.barh(range(len(order)), means, xerr=spread, error_kw={"elinewidth": 0.8}, **bar_look(place))
        panel.grid(visible=False, axis="y")
    chance = first.row["bits"] / 2
    distance.axvline(chance, color="0.3", linewidth=0.9, linestyle=":")
    distance.set_yticks(range(len(order)), order)
    distance.set(title="ISD (lower is better)", xlabel=f"mean Hamming distance\n(dotted: {chance:g}, unrelated)")
    neighbors = min(_NEIGHBORS, len(first.codes("student", "query").packed))
    relevance.set(title=f"NRA@{neighbors} (higher is better)", xlabel="share of relevant neighbours")
    return drawing


@figure("shared_space", section=SPACES, order=2, caption="Teacher's and student's codes in one space (Fig. 7)")
def shared_space(records: Records) -> Figure:
    """Fig. 7: t-SNE of teacher and student codes of the same queries, embedded together.

    Of the available methods, it shows the least aligned, the middle one, and the best aligned.
    """
    cells = records.reference()
    require_labels(next(iter(cells.values())).first)
    order = sorted(cells, key=lambda label: -_agreement(cells[label].first)[0])
    shown = list(dict.fromkeys((order[0], order[len(order) // 2], order[-1])))
    first = cells[shown[0]].first
    title = f"t-SNE of codes: {first.row['dataset']}, {first.row['bits']} bits (digit: class)"
    drawing = new_figure(title, width=max(3.6 * len(shown), 5.5), height=4.8)
    for panel, label in zip(panels(drawing, columns=len(shown)), shown, strict=True):
        student, teacher = (cells[label].first.codes(encoder, "query") for encoder in ("student", "teacher"))
        rows, classes, _ = _some_of_each_class(student.labels)
        codes = torch.cat([as_signs(teacher.packed[rows]), as_signs(student.packed[rows])])
        if len(codes.unique(dim=0)) < _FEWEST:
            raise UnfilledError(f"needs codes that differ; those of {cells[label].first.folder} have collapsed")
        points = _embed(codes)
        for color, part in (("#0072b2", points[: len(rows)]), ("#d55e00", points[len(rows) :])):
            for place in range(int(classes.max()) + 1):
                here = part[classes == place]
                panel.scatter(here[:, 0], here[:, 1], marker=f"${place}$", s=22, color=color, linewidths=0.2, alpha=0.8)
        panel.set(title=f"{label}, ISD {_agreement(cells[label].first)[0]:.1f}", xticks=[], yticks=[])
        panel.grid(visible=False)
    drawing.legend(handles=_digits(first), loc="outside lower center", ncols=2 * len(shown), frameon=False, fontsize=8)
    return drawing


def _digits(run: Run) -> list[Line2D]:
    """The entries of a legend: colours of teacher and student, and the digits of classes with names."""
    looks = [("1", "#0072b2", "teacher (darker)"), ("1", "#d55e00", "student (lighter)")]
    if run.results["classes"]:
        _, _, labels = _some_of_each_class(run.codes("student", "query").labels)
        names = run.class_names(max(labels) + 1)
        looks += [(str(place), "0.3", shortened(names[label], _LONGEST_NAME)) for place, label in enumerate(labels)]
    return [Line2D([], [], linestyle="", marker=f"${mark}$", color=color, label=name) for mark, color, name in looks]


def _agreement(run: Run) -> tuple[float, float]:
    """ISD and NRA@100 over at most 2,000 test queries, drawn with a fixed seed."""
    student, teacher = (run.codes(encoder, "query").sample(_IMAGES) for encoder in ("student", "teacher"))
    own, other = as_signs(student.packed), as_signs(teacher.packed)
    nra = neighbor_relevance_accuracy(own, other, student.labels, min(_NEIGHBORS, len(own)))
    return individual_sample_distance(own, other).item(), nra.item()


def _some_of_each_class(labels: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Rows of the first images of up to ten classes, their places 0..9 among these classes, and the labels of these.

    The first of several labels counts.
    """
    classes = labels if labels.ndim == 1 else labels.argmax(dim=1)
    names = classes.unique()[:_CLASSES]
    rows = torch.cat([(classes == name).nonzero().flatten()[: _POINTS // len(names)] for name in names])
    return rows, torch.searchsorted(names, classes[rows]), names.tolist()


def _embed(codes: Tensor) -> Tensor:
    """2-D points (n, 2); squared Euclidean distance of codes is four times their Hamming distance."""
    perplexity = min(30.0, (len(codes) - 1) / 3)
    with threadpool_limits(limits=1):  # the same points on every machine of a kind
        model = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=500)
        return torch.from_numpy(model.fit_transform(codes.float().numpy()))
