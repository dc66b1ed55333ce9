"""Choice of the number of clusters: offset positives (Fig. 6 of the paper), elbow and silhouette."""

from __future__ import annotations

from matplotlib.figure import Figure
from sklearn.metrics import silhouette_score
from torch import Tensor

from brcd_lightning.codes.clusters import kmeans_codes
from brcd_lightning.metrics import offset_positive_rate
from brcd_lightning.report.catalog import CLUSTERS, figure
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import Run, UnfilledError
from brcd_lightning.report.saved_codes import drawn
from brcd_lightning.report.style import line_look, new_figure, panels

_COUNTS = (2, 5, 10, 20, 30, 50, 70)
_REPEATS, _IMAGES, _SILHOUETTE_IMAGES = 5, 5000, 2000


@figure("offset_positives", section=CLUSTERS, order=3, caption="Offset positives by the number of clusters (Fig. 6)")
def offset_positives(records: Records) -> Figure:
    """Fig. 6: offset positive rate (OPR) against the number of clusters, over repeated k-means."""
    runs = [run for run in _teachers(records) if "view_codes" in run.teacher_codes]
    if not runs:
        raise UnfilledError("needs a run of a method that compares images with their augmentations")
    runs = [run for run in runs if _counts(_viewed(run)[0])]
    if not runs:
        raise UnfilledError(f"needs augmentations of images with more than {min(_COUNTS)} distinct teacher codes")
    drawing = new_figure(
        f"Offset positives, {_REPEATS} repetitions of k-means: {_datasets(runs)}",
        width=1.2 + 3.4 * len(runs),
        height=3.5,
    )
    for panel, run in zip(panels(drawing, columns=len(runs), sharey=True), runs, strict=True):
        codes, views = _viewed(run)
        counts = _counts(codes)
        rates = [
            [
                offset_positive_rate(codes, views, kmeans_codes(codes, count, seed=seed, n_init=1)[0]).item()
                for seed in range(_REPEATS)
            ]
            for count in counts
        ]
        panel.boxplot(rates, tick_labels=[str(count) for count in counts], medianprops={"color": "#d55e00"})
        panel.set(title=_named(run), xlabel="clusters k", ylabel="OPR")
    return drawing


@figure("number_of_clusters", section=CLUSTERS, order=4, caption="Elbow and silhouette")
def number_of_clusters(records: Records) -> Figure:
    """Elbow (inertia) and silhouette of the teacher's training codes against the number of clusters."""
    runs = _teachers(records)
    if not runs:
        raise UnfilledError("needs a run of a method that uses the teacher")
    drawing = new_figure(f"Number of clusters in the teacher's training codes: {_datasets(runs)}", height=3.5)
    elbow, silhouette = panels(drawing, columns=2)
    for number, run in enumerate(runs):
        codes = run.teacher_codes["codes"]
        codes = codes[drawn(len(codes), _IMAGES)]
        counts = _counts(codes)
        fits = [kmeans_codes(codes, count, seed=0, n_init=3) for count in counts]
        label = _named(run)
        elbow.plot(counts, [_inertia(codes, *fit) for fit in fits], label=label, **line_look(number))
        silhouette.plot(counts, [_silhouette(codes, fit[1]) for fit in fits], label=label, **line_look(number))
    elbow.set(title="elbow", xlabel="clusters k", ylabel="squared distance to own centroid")
    silhouette.set(title="silhouette, higher is better", xlabel="clusters k", ylabel="mean silhouette")
    silhouette.legend()
    return drawing


def _teachers(records: Records) -> list[Run]:
    """The run with the longest codes for each teacher, among runs that kept the teacher's training codes."""
    found: dict[tuple[object, ...], Run] = {}
    for run in sorted(records.runs, key=lambda run: (run.row["seed"], "view_codes" not in run.teacher_codes)):
        if "codes" not in run.teacher_codes or not _counts(run.teacher_codes["codes"]):
            continue
        key = (run.row["dataset"], run.row["hashing_model"], run.row["teacher"])
        if key not in found or run.row["bits"] > found[key].row["bits"]:
            found[key] = run
    return list(found.values())[:3]


def _viewed(run: Run) -> tuple[Tensor, Tensor]:
    """Teacher codes of at most 5,000 images and of one augmentation of each, both (m, b)."""
    kept = run.teacher_codes
    rows = drawn(len(kept["view_codes"]), _IMAGES)
    return kept["codes"][kept["view_index"]][rows], kept["view_codes"][rows]


def _counts(codes: Tensor) -> list[int]:
    """Numbers of clusters below the number of distinct codes."""
    distinct = len(codes.unique(dim=0))
    return [count for count in _COUNTS if count < distinct]


def _datasets(runs: list[Run]) -> str:
    return ", ".join(dict.fromkeys(run.row["dataset"] for run in runs))


def _named(run: Run) -> str:
    return f"{run.row['hashing_model']}, {run.row['teacher']}, {run.row['bits']} bits"


def _inertia(codes: Tensor, centroids: Tensor, assignments: Tensor) -> float:
    return (codes.double() - centroids[assignments].double()).square().sum(dim=1).mean().item()


def _silhouette(codes: Tensor, assignments: Tensor) -> float:
    chosen = drawn(len(codes), _SILHOUETTE_IMAGES)
    if len(assignments[chosen].unique()) < 2:
        return 0.0
    return float(silhouette_score(codes[chosen].float().numpy(), assignments[chosen].numpy()))
