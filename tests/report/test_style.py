import matplotlib as mpl
import pytest
from PIL import Image

from brcd_lightning.report.style import (
    axis_limit,
    bar_look,
    bars,
    legend_below,
    line_look,
    new_figure,
    panels,
    save_figure,
    styled,
)


@styled
def draw():
    figure = new_figure("title")
    (axes,) = panels(figure)
    bars(axes, ["a", "b"], {"x": [0.1, None], "x sd": [0.01, None], "y": [0.3, 0.4], "y sd": [None, 0.1]}, errors=True)
    return figure


def test_a_figure_is_saved_twice_and_the_same_each_time(tmp_path):
    first, second = (save_figure(draw(), tmp_path / name, "f") for name in ("a", "b"))
    assert Image.open(first).width > 500
    assert "<svg" in first.with_suffix(".svg").read_text()
    for kind in (".png", ".svg"):
        assert first.with_suffix(kind).read_bytes() == second.with_suffix(kind).read_bytes()


def test_the_style_stays_inside():
    before = mpl.rcParams["axes.grid"]
    assert draw().axes[0].spines["top"].get_visible() is False
    assert mpl.rcParams["axes.grid"] == before


def test_bars_stand_in_groups_with_gaps_for_what_is_missing():
    (axes,) = draw().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [patch.get_width() for patch in axes.patches] == pytest.approx([0.1, 0.0, 0.3, 0.4])


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ([0.08, 0.03], 0.08),
        ([0.081, None], 0.1),
        ([0.16], 0.2),
        ([0.3933], 0.4),
        ([0.61], 0.8),
        ([0.81], 1.0),
        ([1.0], 1.0),
        ([1.2], 1.0),
        ([0.0], 0.0001),
        ([], 0.0001),
    ],
)
def test_limits_are_the_largest_value_rounded_up(values, limit):
    assert axis_limit(values) == limit


def test_lines_and_bars_differ_without_colour():
    looks = [line_look(number) for number in range(20)]
    assert len({(look["color"], look["marker"], look["linestyle"]) for look in looks}) == 20
    assert len({(look["marker"], look["linestyle"]) for look in looks}) == 20
    assert len({bar_look(number)["hatch"] for number in range(8)}) == 8


def test_names_are_no_formulas_and_ticks_may_be(tmp_path):
    @styled
    def odd():
        figure = new_figure("d$x^{$")
        (axes,) = panels(figure)
        axes.plot([1, 1000], [1, 1000], label="$a^{")
        axes.set(xscale="log", yscale="log")
        legend_below(figure, axes)
        return figure

    text = save_figure(odd(), tmp_path, "f").with_suffix(".svg").read_text()
    assert "d$x^{$" in text
    assert ">$\\mathdefault" not in text  # the exponents of the ticks are drawn as such


def test_a_legend_makes_room_for_itself():
    heights = []
    for count in (2, 20):
        figure = new_figure("t", height=3)
        (axes,) = panels(figure)
        for number in range(count):
            axes.plot([0, 1], [0, number], label=f"a name of many letters, number {number}")
        legend_below(figure, axes)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        heights.append(figure.get_figheight())
    assert heights[1] > heights[0] > 3
