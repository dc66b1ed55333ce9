"""The style of all figures, which can be read without colours, and the saving of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from brcd_lightning.storage.atomic import atomic_path

P = ParamSpec("P")
F = TypeVar("F", Figure, list[Figure])

# Okabe and Ito's palette, told apart by colour-blind readers, without its yellow, which is pale on white.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
_LINES = ("-", "--", "-.", ":")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---", "+++", "ooo")
_STYLE: Any = {  # matplotlib's annotation lists every key as a literal
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "brcd_lightning",  # the same figure, the same bytes
    "svg.fonttype": "none",
}


def styled(draw: Callable[P, F]) -> Callable[P, F]:
    """Decorates a function that returns one figure or a list of figures to draw in the style of the report."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> F:
        with mpl.rc_context(_STYLE):
            result = draw(*args, **kwargs)
        for figure in result if isinstance(result, list) else [result]:
            for text in figure.findobj(Text):
                if "$" in text.get_text() and "mathdefault" not in text.get_text():
                    text.set_parse_math(False)  # names are not formulas, but ticks may be
        return result

    return drawn


def new_figure(title: str, width: float = 7.0, height: float = 3.6) -> Figure:
    """Returns an empty figure of a size in inches, with constrained layout."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def panels(figure: Figure, rows: int = 1, columns: int = 1, **options: Any) -> list[Axes]:
    """Adds axes to a figure and returns them row by row."""
    return list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def line_look(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of line `number`."""
    return {
        "color": _COLORS[number % len(_COLORS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _LINES[number % len(_LINES)],
        "markersize": 4.5,
        "linewidth": 1.4,
    }


def bar_look(number: int) -> dict[str, Any]:
    """Colour and hatch of bar series `number`."""
    return {
        "color": _COLORS[number % len(_COLORS)],
        "hatch": _HATCHES[number % len(_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.5,
    }


def bars(axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[float | None]], errors: bool = False) -> None:
    """Draws horizontal bars in groups, one group for each name, the first on top.

    Args:
        axes: the axes to draw in.
        names: names of the groups.
        series: values by name of the series; None leaves a gap.
        errors: whether every second series, named as the one before with `` sd``, holds its error bars.
    """
    shown = [name for name in series if not (errors and name.endswith(" sd"))]
    thickness = 0.8 / len(shown)
    for number, name in enumerate(shown):
        places = [row + (number - (len(shown) - 1) / 2) * thickness for row in range(len(names))]
        values = [0.0 if value is None else value for value in series[name]]
        spread = [value or 0.0 for value in series[f"{name} sd"]] if errors else None
        axes.barh(places, values, thickness, xerr=spread, error_kw={"elinewidth": 0.8}, label=name, **bar_look(number))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def axis_limit(values: Iterable[float | None]) -> float:
    """The end of an axis from 0 that fits some shares, such as precisions: their maximum, rounded up; at most 1.

    Panels that are compared take one limit, from the values of all of them.
    """
    largest = max((value for value in values if value is not None), default=0.0)
    steps = (step * 10.0**power for power in (-4, -3, -2, -1) for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
    return next((round(limit, 6) for limit in steps if largest <= limit), 1.0)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Adds one legend below all axes of a figure and enlarges the figure by its height."""
    handles, labels = axes.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    entry = 0.5 + 0.065 * max(map(len, labels))  # inches, at this size of text
    columns = max(1, min(len(labels), int(width / entry)))
    figure.set_size_inches(width, height + 0.18 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Writes PNG and SVG; returns the path of the PNG."""
    with mpl.rc_context(_STYLE):
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            with atomic_path(folder / f"{name}.{kind}") as temporary:
                figure.savefig(temporary, format=kind, dpi=140, metadata=metadata)
            figure.set_layout_engine("none")  # laid out once, for both files
    return folder / f"{name}.png"
