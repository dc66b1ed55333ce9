"""mAP against code length, options and backbones: Figs. 4 and 5b of the paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brcd_lightning.report.catalog import SCORES, figure
from brcd_lightning.report.comparisons import score
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import SETTING, Cell, UnfilledError
from brcd_lightning.report.style import axis_limit, bars, legend_below, line_look, new_figure, panels
from brcd_lightning.results.summary_table import PARADIGMS

_COLUMNS = 3


@figure("map_by_bits", section=SCORES, order=1, caption="mAP against code length")
def map_by_bits(records: Records) -> Figure:
    """Draws mAP of each method against the code length, with the standard deviation over seeds."""
    setting = _main_setting(records)
    cells = records.of(**setting)
    lengths = sorted({cell.first.row["bits"] for cell in cells})
    if len(lengths) < 2:
        raise UnfilledError("needs runs with two code lengths or more")
    drawing = new_figure(f"mAP against code length: {cells[0].first.title}", height=3.5)
    axes = panels(drawing, columns=2, sharex=True)
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
    legend_below(drawing, axes[0])
    return drawing


@figure("map_by_backbones", section=SCORES, order=2, caption="mAP with other backbones (Fig. 4 of the paper)")
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
    height = 1.2 + 0.16 * len(pairs) * len(labels)
    drawing = new_figure(f"Backbones: {setting['dataset']}, {setting['hashing_model']}, {bits} bits", height=height)
    axes = panels(drawing, columns=2, sharex=True, sharey=True)
    ends: list[float] = []
    for panel, paradigm in zip(axes, PARADIGMS, strict=True):
        chosen = {
            pair: records.chosen([cell for cell in inside if cell.first.pair == pair], paradigm) for pair in pairs
        }
        series: dict[str, list[float | None]] = {}
        for label in labels:
            values = [score(chosen[p][label], f"map_{paradigm}") if label in chosen[p] else None for p in pairs]
            series[label] = [value.mean if value else None for value in values]
            series[f"{label} sd"] = [value.deviation if value else None for value in values]
            ends += [value.mean + (value.deviation or 0.0) for value in values if value]
        bars(panel, [pair.replace(" → ", " →\n") for pair in pairs], series, errors=True)
        panel.set(title=paradigm.upper(), xlabel=_map_name(inside))
    axes[0].set_xlim(0, axis_limit(ends))  # of both panels
    legend_below(drawing, axes[0])
    return drawing


@figure("map_by_options", section=SCORES, order=3, caption="mAP against tuned options (Fig. 5b)")
def map_by_options(records: Records) -> Figure:
    """Fig. 5b: mAP against each tuned option of the method with the largest grid, with the others fixed.

    The fixed values are those at which most options have a line; the best validation breaks ties.
    """
    cells = _largest_grid(records)
    held = max(cells, key=lambda cell: (len(_neighbours(cell, cells)), cell.validation)).first.numbers
    lines = {name: _line(cells, held, name) for name in held}
    lines = {name: line for name, line in lines.items() if len(line) > 1}
    grid, pair = _heat_map(cells, held, list(lines))
    count = len(lines) + bool(grid)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    run = cells[0].first
    title = f"Options of {records.label(run)}, {run.row['bits']} bits: {run.title}"
    drawing = new_figure(title, width=max(3.4 * columns, 6.0), height=0.4 + 3.0 * rows)
    axes = panels(drawing, rows, columns)
    for panel, (name, line) in zip(axes, lines.items(), strict=False):
        _draw_line(panel, name, line, {key: held[key] for key in lines if key != name})
    if grid:
        _draw_heat_map(drawing, axes[count - 1], grid, pair)
    for panel in axes[count:]:
        panel.set_axis_off()
    return drawing


def _draw_line(panel: Axes, name: str, line: Sequence[Cell], held: Mapping[str, float]) -> None:
    places = [cell.first.numbers[name] for cell in line]
    for number, paradigm in enumerate(PARADIGMS):
        known = [
            (place, value)
            for place, cell in zip(places, line, strict=True)
            if (value := score(cell, f"map_{paradigm}"))
        ]
        means, spread = [value.mean for _, value in known], [value.deviation or 0.0 for _, value in known]
        look = line_look(number) | {"label": paradigm.upper()}
        panel.errorbar([place for place, _ in known], means, yerr=spread, capsize=2, **look)
    if places[0] > 0 and len(places) > 2 and all(later / earlier >= 2 for earlier, later in pairwise(places)):
        panel.set_xscale("log")
    fixed = ", ".join(f"{_short(key)} {value:g}" for key, value in held.items())
    panel.set_title(f"at {fixed}" if fixed else "", fontsize=8)
    panel.set(xlabel=_short(name), ylabel=_map_name(line))
    panel.legend()


def _line(cells: Sequence[Cell], held: Mapping[str, float], *free: str) -> list[Cell]:
    """Cells that differ from `held` in the free options only, sorted by the first of these."""
    fixed = {key: value for key, value in held.items() if key not in free}
    line = [cell for cell in cells if all(cell.first.numbers[key] == value for key, value in fixed.items())]
    return sorted(line, key=lambda cell: cell.first.numbers[free[0]])


def _neighbours(cell: Cell, cells: Sequence[Cell]) -> set[str]:
    """Options that are the only difference between this cell and some other one."""
    own = cell.first.numbers
    differing = [[key for key in own if other.first.numbers[key] != own[key]] for other in cells]
    return {keys[0] for keys in differing if len(keys) == 1}


def _heat_map(
    cells: Sequence[Cell], held: Mapping[str, float], names: Sequence[str]
) -> tuple[dict[tuple[float, float], float], tuple[str, ...]]:
    """SSHP mAP over the largest complete grid of two options, with the others fixed; empty without one."""
    best: tuple[dict[tuple[float, float], float], tuple[str, ...]] = ({}, ())
    for pair in combinations(names, 2):
        grid = {}
        for cell in _line(cells, held, *pair):
            if (value := score(cell, "map_sshp")) is not None:
                grid[cell.first.numbers[pair[0]], cell.first.numbers[pair[1]]] = value.mean
        for side in (0, 1):
            whole = _complete(grid, side)
            if len(whole) > len(best[0]) and all(len({place[each] for place in whole}) > 1 for each in (0, 1)):
                best = whole, pair
    return best


def _complete(grid: Mapping[tuple[float, float], float], side: int) -> dict[tuple[float, float], float]:
    """The part of a grid in which each value of one option occurs with every value of the other."""
    others = {place[1 - side] for place in grid}
    found = Counter(place[side] for place in grid)
    return {place: value for place, value in grid.items() if found[place[side]] == len(others)}


def _draw_heat_map(drawing: Figure, panel: Axes, grid: dict[tuple[float, float], float], names: Sequence[str]) -> None:
    rows, columns = (sorted({place[side] for place in grid}) for side in (0, 1))
    values = [[grid[row, column] for column in columns] for row in rows]
    image = panel.imshow(values, aspect="auto", cmap="cividis", origin="lower")
    middle = (min(map(min, values)) + max(map(max, values))) / 2
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            shade = "white" if value < middle else "black"
            panel.text(x, y, f"{value:.4f}", ha="center", va="center", fontsize=7, color=shade)
    panel.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    panel.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    panel.set(title="SSHP", xlabel=_short(names[1]), ylabel=_short(names[0]))
    panel.grid(visible=False)
    drawing.colorbar(image, ax=panel)


def _largest_grid(records: Records) -> list[Cell]:
    """The largest set of cells of one method and setting that differ in numeric options only."""
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
