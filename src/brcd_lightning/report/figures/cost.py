"""Query cost: latency curves (Table 3 of the paper) and mAP against latency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brcd_lightning.report.catalog import COST, figure
from brcd_lightning.report.comparisons import score
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import Cell, Run, UnfilledError
from brcd_lightning.report.style import legend_below, line_look, new_figure, panels
from brcd_lightning.results.summary_table import PARADIGMS

Latency = Mapping[str, Any]
Places = dict[tuple[str, str, str], tuple[float, float]]
"""Milliseconds and mAP by method (or ``teacher``), pair of backbones (or the teacher's) and paradigm (or empty)."""


@figure(
    "cost_of_queries",
    section=COST,
    order=1,
    caption="Cost of a query against mAP, and what each student saves and loses",
)
def cost_of_queries(records: Records) -> Figure:
    """Draws the Pareto front of mAP and latency, and the mAP that each student loses against the time it saves."""
    reference = next(iter(records.reference().values())).first
    latency, timed = _timed(records, reference)
    times = _times(latency)
    labels = list(dict.fromkeys(records.label(cell.first) for cell in timed))
    cut = reference.results["metric_protocol"]["k"]
    title = f"Cost of a query: {reference.row['dataset']}, {reference.row['bits']} bits, {latency['device']}"
    drawing = new_figure(title, height=4.6)
    front, saving = panels(drawing, columns=2)
    places: Places = {}
    for pair in dict.fromkeys(cell.first.pair for cell in timed):
        inside = [cell for cell in timed if cell.first.pair == pair]
        places |= _places(records, inside, times)
        _draw_saving(saving, records, inside, times, labels)
    for (label, name, paradigm), place in places.items():
        look = {"color": "black", "marker": "*", "markersize": 10, "linestyle": "", "label": f"teacher {name}"}
        front.plot(*place, **(look if label == "teacher" else _look(label, paradigm, labels)))
    best = _front(list(places.values()))
    front.plot(*zip(*best, strict=True), color="0.4", linewidth=0.9, linestyle="--", label="Pareto front", zorder=0)
    front.set(title="mAP against time (open: ASHP)", xlabel="ms to encode a query (batch 1)", ylabel=f"mAP@{cut}")
    saving.set(
        title="loss against saving (open: ASHP)",
        xlabel="% of the encoding time saved",
        ylabel=f"mAP@{cut} below the teacher",
    )
    legend_below(drawing, front)
    return drawing


@figure("latency", section=COST, order=2, caption="Encoding and searching by batch size (Table 3)")
def latency_curves(records: Records) -> list[Figure]:
    """Draws encoding and search time against the batch size, one figure for each latency file."""
    return [draw_latency(latency) for latency in records.latencies]


def draw_latency(latency: Latency) -> Figure:
    """Draws encoding and search time of one machine against the batch size."""
    drawing = new_figure(f"Latency: encoding on {latency['device']}, searching on {latency['processor']}", height=4.4)
    encoding, searching = panels(drawing, columns=2)
    groups: list[tuple[Axes, str, dict[str, list[Latency]]]] = [
        (encoding, "encoding", _grouped(latency["encode"], lambda row: row["backbone"])),
        (searching, "searching", _grouped(latency["search"], lambda row: f"n={row['n']:,}, k={row['k']:,}")),
    ]
    for panel, title, series in groups:
        for number, (name, rows) in enumerate(series.items()):
            rows = sorted(rows, key=lambda row: row["batch"])  # noqa: PLW2901
            middle = [row["ms"] for row in rows]
            low = [max(0.0, row["ms"] - row.get("ms_p10", row["ms"])) for row in rows]
            high = [max(0.0, row.get("ms_p90", row["ms"]) - row["ms"]) for row in rows]
            batches = [row["batch"] for row in rows]
            panel.errorbar(batches, middle, yerr=(low, high), capsize=2, label=name, **line_look(number))
        batches = sorted({row["batch"] for rows in series.values() for row in rows})
        panel.set(title=title, xlabel="batch", ylabel="ms (bars: 10 to 90 %)", xscale="log", yscale="log")
        panel.set_xticks(batches, [str(batch) for batch in batches])
        panel.minorticks_off()
        if series:
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return drawing


def _timed(records: Records, reference: Run) -> tuple[Latency, list[Cell]]:
    """The latency of the machine that timed most cells comparable with a run, and these cells.

    Times of different machines are not comparable.
    """
    cells = records.of(dataset=reference.row["dataset"], hashing_model=reference.row["hashing_model"])
    cells = [cell for cell in cells if cell.first.row["bits"] == reference.row["bits"]]
    found = [
        (latency, [cell for cell in cells if _needed(cell) <= _times(latency).keys()]) for latency in records.latencies
    ]
    latency, timed = max(found, key=lambda pair: len(pair[1]), default=({}, []))
    if not timed:
        raise UnfilledError("needs the latency of the runs' backbones at batch 1: brcd latency")
    return latency, timed


def _places(records: Records, inside: Sequence[Cell], times: Mapping[str, float]) -> Places:
    """Cost and mAP of the teacher and of the students of one pair of backbones."""
    row, pair = inside[0].first.row, inside[0].first.pair
    teacher = score(inside[0], "map_teacher")
    places: Places = {("teacher", row["teacher"], ""): (times[row["teacher"]], teacher.mean if teacher else 0.0)}
    for label, paradigm, value in _students(records, inside):
        places[label, pair, paradigm] = (times[row["student"]], value)
    return places


def _draw_saving(
    panel: Axes, records: Records, inside: Sequence[Cell], times: Mapping[str, float], labels: Sequence[str]
) -> None:
    """Draws the time that the students of one pair of backbones save against the mAP that they lose."""
    row = inside[0].first.row
    teacher = score(inside[0], "map_teacher")
    if teacher is None:
        return
    saved = 1 - times[row["student"]] / times[row["teacher"]]
    for label, paradigm, value in _students(records, inside):
        panel.plot(100 * saved, teacher.mean - value, **_look(label, paradigm, labels))


def _students(records: Records, inside: Sequence[Cell]) -> Iterator[tuple[str, str, float]]:
    """Label, paradigm and mAP of the distilled students of one pair of backbones."""
    for paradigm in PARADIGMS:
        for label, cell in records.chosen(inside, paradigm).items():
            value = score(cell, f"map_{paradigm}")
            if value is not None and cell.first.distils:
                yield label, paradigm, value.mean


def _needed(cell: Cell) -> set[str]:
    return {cell.first.row["teacher"], cell.first.row["student"]}


def _times(latency: Latency) -> dict[str, float]:
    """Milliseconds to encode one image, by backbone."""
    return {row["backbone"]: row["ms"] for row in latency["encode"] if row["batch"] == 1}


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in both time and mAP, the fastest first."""
    best: list[tuple[float, float]] = []
    for milliseconds, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or value > best[-1][1]:
            best.append((milliseconds, value))
    return best


def _look(label: str, paradigm: str, labels: Sequence[str]) -> dict[str, Any]:
    """Marker of a method: filled and in the legend for SSHP, open for ASHP."""
    look = line_look(labels.index(label)) | {"linestyle": "", "markersize": 6, "label": label}
    return look | ({} if paradigm == "sshp" else {"markerfacecolor": "white", "label": "_nolegend_"})


def _grouped(rows: Sequence[Latency], key: Callable[[Latency], str]) -> dict[str, list[Latency]]:
    groups: dict[str, list[Latency]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
