from brcd_lightning.report.table import Number, Table, cell_text, ranked


def test_cells_are_texts():
    assert cell_text(None) == "–"
    assert cell_text("a") == "a"
    assert cell_text(Number(0.12345, 0.01, 3)) == "0.1235 ± 0.0100"
    assert cell_text(Number(12345.0, digits=1)) == "12,345.0"
    assert cell_text(Number(0.5, digits=None)) == "0.5"


def test_a_column_with_a_number_is_numeric():
    table = Table("t", "T", ["a", "b"], [["x", None], ["y", Number(1.0)]])
    assert table.numeric_columns() == [False, True]


def test_the_best_and_the_second_are_marked_by_what_is_printed():
    column = [Number(0.9), Number(0.50001), Number(0.50002), Number(0.3), None, Number(0.1)]
    marks = [value.rank if value else None for value in ranked(column, [False, True, True, True, True, True])]
    assert marks == ["", "best", "best", "second", None, ""]
