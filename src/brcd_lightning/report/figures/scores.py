"""mAP against code length, options and backbones: Figs. 4 and 5b of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure

from brcd_lightning.report.comparisons import score
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import PARADIGMS, SETTING, Cell, UnfilledError
from brcd_lightning.report.style import bars, legend_below, line_look, new_figure, panels, styled


@styled
def map_by_bits(records: Records) -> Figure:
    """Each method against the code length, with the spread over seeds."""
    setting = _main_setting(records)
    cells = records.of(**setting)
    lengths = sorted({cell.first.row["bits"] for cell in cells})
    if len(lengths) < 2:
        raise UnfilledError("needs runs with two code lengths or more")
    figure = new_figure(f"mAP against code length: {cells[0].first.title}", height=4.2)
    axes = panels(figure, columns=2, sharex=True)
    labels = list(dict.fromkeys(records.label(cell.first) for cell in cells))
    for panel, paradigm in zip(axes, PARADIGMS, strict=True):
        for number, label in enumerate(labels):
            points = {}
            for bits in lengths:
                cell = records.chosen(records.of(**setting, bits=bits), paradigm).get(label)
                if cell is not None and (value := score(cell, f"map_{paradigm}")) is not None:
                    points[bits] = value
            means = [value.mean for value in points.values()]
            spread = [value.deviation or 0.0 for value in points.values()]
            panel.errorbar(list(points), means, yerr=spread, capsize=2, label=label, **line_look(number))
        panel.set(title=paradigm.upper(), xlabel="code length (bits)", ylabel=_map_name(cells))
        panel.set_xscale("log", base=2)
        panel.set_xticks(lengths, [str(bits) for bits in lengths])
        panel.minorticks_off()
    legend_below(figure, axes[0], columns=4)
    return figure


@styled
def map_by_backbones(records: Records) -> Figure:
    """Fig. 4: mAP of every method with each pair of backbones."""
    setting = _main_setting(records)
    inside = records.of(dataset=setting["dataset"], hashing_model=setting["hashing_model"])
    pairs = list(dict.fromkeys(cell.first.pair for cell in inside))
    if len(pairs) < 2:
        raise UnfilledError("needs runs with two pairs of backbones or more")
    bits = max({cell.first.row["bits"] for cell in inside}, key=lambda length: _spread_of(inside, length))
    inside = [cell for cell in inside if cell.first.row["bits"] == bits]
    labels = list(dict.fromkeys(records.label(cell.first) for cell in inside))
    height = 1.4 + 0.16 * len(pairs) * len(labels)
    figure = new_figure(f"Backbones: {setting['dataset']}, {setting['hashing_model']}, {bits} bits", height=height)
    axes = panels(figure, columns=2, sharey=True)
    for panel, paradigm in zip(axes, PARADIGMS, strict=True):
        chosen = {
            pair: records.chosen([cell for cell in inside if cell.first.pair == pair], paradigm) for pair in pairs
        }
        series: dict[str, list[float | None]] = {}
        for label in labels:
            values = [score(chosen[p][label], f"map_{paradigm}") if label in chosen[p] else None for p in pairs]
            series[label] = [value and value.mean for value in values]
            series[f"{label} sd"] = [value and value.deviation for value in values]
        bars(panel, [pair.replace(" → ", " →\n") for pair in pairs], series, errors=True)
        panel.set(title=paradigm.upper(), xlabel=_map_name(inside))
    legend_below(figure, axes[0], columns=4)
    return figure


@styled
def map_by_options(records: Records) -> Figure:
    """Fig. 5b: mAP against each tuned option of the method with the largest grid, the other ones at their best."""
    cells = _largest_grid(records)
    numbers = [cell.first.numbers for cell in cells]
    names = [key for key in numbers[0] if len({each[key] for each in numbers}) > 1]
    best = max(cells, key=lambda cell: (cell.validation, -cells.index(cell))).first.numbers
    grid = _heat_map_of(cells, names)
    figure = new_figure(
        f"Options of {records.label(cells[0].first)}, {cells[0].first.row['bits']} bits: {cells[0].first.title}",
        width=3.3 * (len(names) + bool(grid)),
        height=3.4,
    )
    axes = panels(figure, columns=len(names) + bool(grid))
    for panel, name in zip(axes, names, strict=False):
        others = {key: value for key, value in best.items() if key != name}
        line = [cell for cell in cells if all(cell.first.numbers[key] == value for key, value in others.items())]
        line.sort(key=lambda cell: cell.first.numbers[name])
        places = [cell.first.numbers[name] for cell in line]
        for number, paradigm in enumerate(PARADIGMS):
            values = [score(cell, f"map_{paradigm}") for cell in line]
            means, spread = [v.mean for v in values if v], [v.deviation or 0.0 for v in values if v]
            panel.errorbar(places, means, yerr=spread, capsize=2, label=paradigm.upper(), **line_look(number))
        if places[0] > 0 and all(later / earlier >= 2 for earlier, later in pairwise(places)) and len(places) > 2:
            panel.set_xscale("log")
        fixed = ", ".join(f"{_short(key)} {best[key]:g}" for key in names if key != name)
        panel.set(title=f"at {fixed}" if fixed else "", xlabel=_short(name), ylabel=_map_name(cells))
        panel.legend()
    if grid:
        _draw_heat_map(figure, axes[-1], grid, names)
    return figure


def _draw_heat_map(figure: Figure, panel: Any, grid: dict[tuple[float, float], float], names: Sequence[str]) -> None:
    rows, columns = (sorted({place[side] for place in grid}) for side in (0, 1))
    values = [[grid[row, column] for column in columns] for row in rows]
    image = panel.imshow(values, aspect="auto", cmap="cividis", origin="lower")
    middle = (min(map(min, values)) + max(map(max, values))) / 2
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            shade = "white" if value < middle else "black"
            panel.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize=7, color=shade)
    panel.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    panel.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    panel.set(title="SSHP", xlabel=_short(names[1]), ylabel=_short(names[0]))
    panel.grid(visible=False)
    figure.colorbar(image, ax=panel)


def _heat_map_of(cells: Sequence[Cell], names: Sequence[str]) -> dict[tuple[float, float], float]:
    """SSHP by the values of two options; empty unless exactly two vary and all combinations are there."""
    if len(names) != 2:
        return {}
    grid = {}
    for cell in cells:
        if (value := score(cell, "map_sshp")) is not None:
            grid[cell.first.numbers[names[0]], cell.first.numbers[names[1]]] = value.mean
    rows, columns = ({place[side] for place in grid} for side in (0, 1))
    return grid if len(grid) == len(rows) * len(columns) else {}


def _largest_grid(records: Records) -> list[Cell]:
    """Cells of one method in one setting that differ in numeric options only, as many as there are."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in records.cells:
        run = cell.first
        others = tuple(sorted((key, str(value)) for key, value in run.options.items() if key not in run.numbers))
        key = (run.setting, run.row["bits"], run.row["paradigm"], records.label(run), tuple(run.numbers), others)
        groups.setdefault(key, []).append(cell)
    largest = max(groups.values(), key=len, default=[])
    if len(largest) < 2:
        raise UnfilledError("needs runs of one method with several values of an option, such as +sweep=alpha_delta")
    return largest


def _main_setting(records: Records) -> dict[str, Any]:
    if not records.runs:
        raise UnfilledError("needs a finished run")
    return dict(zip(SETTING, records.settings()[0], strict=True))


def _map_name(cells: Sequence[Cell]) -> str:
    return f"mAP@{cells[0].first.results['metric_protocol']['k']}"


def _spread_of(cells: Sequence[Cell], bits: int) -> tuple[int, int]:
    return len({cell.first.pair for cell in cells if cell.first.row["bits"] == bits}), bits


def _short(option: str) -> str:
    return option.removeprefix("kd_method.")
