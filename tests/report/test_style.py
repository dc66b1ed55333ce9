import matplotlib as mpl
import pytest
from PIL import Image

from brcd_lightning.report.style import bar_look, bars, line_look, new_figure, panels, save_figure, styled


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


def test_lines_and_bars_differ_without_colour():
    looks = [line_look(number) for number in range(20)]
    assert len({(look["color"], look["marker"], look["linestyle"]) for look in looks}) == 20
    assert len({(look["marker"], look["linestyle"]) for look in looks}) == 20
    assert len({bar_look(number)["hatch"] for number in range(8)}) == 8
