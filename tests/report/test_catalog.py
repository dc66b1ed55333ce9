from types import ModuleType

import pytest

from brcd_lightning.report.catalog import CLUSTERS, SCORES, figure, find_figures, in_order
from brcd_lightning.report.records import Records
from brcd_lightning.report.style import new_figure, panels


def declared(name, section=SCORES, order=1, module="m", count=None):
    def draw(records):
        """Draws nothing."""
        drawings = [new_figure(name) for _ in range(count or 1)]
        for drawing in drawings:
            panels(drawing)
        return drawings if count is not None else drawings[0]

    draw.__module__ = module
    return figure(name, section=section, order=order, caption=name)(draw)


def module_of(name, *figures):
    module = ModuleType(name)
    for each in figures:
        setattr(module, each.name, each)
    return module


def test_all_modules_are_searched():
    figures = find_figures()
    assert {each.module.rpartition(".")[2] for each in figures} >= {"scores", "cost", "redundancy"}
    assert all(each.caption for each in figures)


def test_sections_come_first_then_the_order_then_the_module():
    a = module_of("a", declared("a1", CLUSTERS, module="a"), declared("a2", order=2, module="a"))
    b = module_of("b", declared("b1", module="b"), declared("b2", order=2, module="b"))
    assert [each.name for each in in_order([a, b])] == ["b1", "a2", "b2", "a1"]


def test_a_figure_that_a_module_imports_is_not_its_own():
    imported = declared("x", module="a")
    assert [each.name for each in in_order([module_of("a", imported), module_of("b", imported)])] == ["x"]


def test_two_figures_of_one_name_are_a_mistake():
    modules = [module_of(name, declared("x", module=name)) for name in ("a", "b")]
    with pytest.raises(ValueError, match="same name: x"):
        in_order(modules)


def test_an_unknown_section_is_a_mistake():
    with pytest.raises(ValueError, match="section of figure 'x' must be one of"):
        declared("x", section="Elsewhere")


def test_figures_draw_in_the_style_of_the_report_and_lists_are_numbered(tmp_path):
    records = Records([tmp_path])
    assert declared("x")(records).axes[0].spines["top"].get_visible() is False
    assert list(declared("x").named(records)) == ["x"]
    assert list(declared("x", count=1).named(records)) == ["x"]
    assert list(declared("x", count=2).named(records)) == ["x_1", "x_2"]
