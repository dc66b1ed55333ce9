"""The ladder as lines over code lengths."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brcd_lightning.metrics.declared import COLUMNS, FLOAT_COLUMNS, ReportedMetric
from brcd_lightning.report.catalog import LADDER, figure
from brcd_lightning.report.ladder import Ladder, Rung, find_ladders
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from brcd_lightning.report.style import legend_below, line_look, new_figure, panels


@figure("ladder", section=LADDER, order=1, caption="Scores of closed forms and gradients; bars: 95 % over queries")
def ladder_lines(records: Records) -> list[Figure]:
    """Draws the Hamming scores of each ladder."""
    return _draw_all(records, COLUMNS[0], "")


@figure("ladder_float", section=LADDER, order=2, caption="The same with float queries: no Hamming scores")
def ladder_lines_of_float_queries(records: Records) -> list[Figure]:
    """Draws the scores of float queries of each ladder."""
    return _draw_all(records, FLOAT_COLUMNS[0], ", float queries")


def _draw_all(records: Records, metric: ReportedMetric, words: str) -> list[Figure]:
    drawn = [_draw(ladder, metric, words) for ladder in find_ladders(records)]
    found = [figure for figure in drawn if figure is not None]
    if not found:
        raise UnfilledError("needs runs whose student or teacher was fitted without training: +sweep=ladder")
    return found


def _draw(ladder: Ladder, metric: ReportedMetric, words: str) -> Figure | None:
    rungs = [*ladder.codes, *ladder.students]
    drawing = new_figure(f"Ladder{words}: {ladder.title}", height=3.4 + 0.16 * len(rungs))
    axes = panels(drawing, columns=3)
    kinds = [
        (axes[0], "teacher on both sides", "teacher", ladder.codes),
        (axes[1], "SSHP", "sshp", rungs),
        (axes[2], "ASHP", "ashp", ladder.students),
    ]
    places = {rung.name: place for place, rung in enumerate(rungs)}
    lines = 0
    for panel, title, encoder, shown in kinds:
        for rung in shown:
            lines += _line(panel, rung, metric.key(encoder), places[rung.name])
        panel.set(title=title, xlabel="bits", xscale="log")
        panel.set_xticks(list(ladder.bits), [str(bits) for bits in ladder.bits])
        panel.minorticks_off()
    if not lines:
        return None
    axes[0].set_ylabel(metric.title_at(rungs[0].cells[min(rungs[0].cells)].first.results["metric_protocol"]["k"]))
    legend_below(drawing, axes[1])
    return drawing


def _line(panel: Axes, rung: Rung, metric: str, place: int) -> bool:
    """Draws a rung; its bars are the intervals of its first runs."""
    known = [(bits, value.mean) for bits in sorted(rung.cells) if (value := rung.value(bits, metric))]
    if not known:
        return False
    lengths, means = zip(*known, strict=True)
    low, high = [], []
    for bits, mean in known:
        first = rung.cells[bits].first
        own, ends = first.metric(metric), first.results.get("intervals", {}).get(f"test/{metric}", (mean, mean))
        low.append(max(0.0, (own if own is not None else mean) - ends[0]))
        high.append(max(0.0, ends[1] - (own if own is not None else mean)))
    panel.errorbar(lengths, means, yerr=(low, high), capsize=2, **line_look(place) | {"label": rung.name})
    return True
