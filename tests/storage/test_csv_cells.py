"""Cells that a spreadsheet does not take for formulas."""

import pytest

from brcd_lightning.storage.csv_cells import plain_cell


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@sum", "\t=1"])
def test_a_formula_becomes_text(text):
    assert plain_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-0.5", "+1e-3", "name", "a=b", "", -0.5, None, True])
def test_everything_else_stays(value):
    assert plain_cell(value) == value
