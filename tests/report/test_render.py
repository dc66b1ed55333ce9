import csv
import io

from brcd_lightning.report.render import csv_text, html, latex, markdown
from brcd_lightning.report.table import Number, Table

TABLE = Table(
    "t",
    "A & B",
    ["method", "x_1 % <i>"],
    [["a|b", Number(0.12345, 0.01, 3, rank="best")], ["c → d", None], ["<e>", Number(2.0, digits=1, rank="second")]],
    "Note 5 %",
)


def test_markdown():
    lines = markdown(TABLE).splitlines()
    assert lines[0] == "### A & B"
    assert "| a\\|b | **0.1235 ± 0.0100** |" in lines
    assert "| c → d | – |" in lines
    assert "| \\<e> | <u>2.0</u> |" in lines
    assert lines[-1] == "Note 5 %"


def test_names_from_elsewhere_are_text():
    hostile = Table("t", "A", ["method"], [["[x](javascript:alert)"], ["=1+1"]])
    assert "| \\[x\\](javascript:alert) |" in markdown(hostile)
    assert csv_text(hostile).splitlines()[2] == "'=1+1"


def test_csv_keeps_the_numbers():
    rows = list(csv.reader(io.StringIO(csv_text(TABLE))))
    assert rows[0] == ["method", "x_1 % <i>", "x_1 % <i> sd", "x_1 % <i> runs"]
    assert rows[1] == ["a|b", "0.12345", "0.01", "3"]
    assert rows[2] == ["c → d", "", "", ""]
    assert {len(row) for row in rows} == {4}


def test_latex_escapes_and_marks():
    text = latex(TABLE)
    assert r"\begin{tabular}{lr}" in text
    assert r"x\_1 \% \textless{}i\textgreater{}" in text
    assert r"\textbf{0.1235 $\pm$ 0.0100}" in text
    assert r"c $\to$ d & -- \\" in text
    assert r"\underline{2.0}" in text


def test_html_escapes_and_carries_what_it_is_sorted_by():
    text = html(TABLE)
    assert "&lt;e&gt;" in text
    assert "<e>" not in text
    assert 'data-key="0.12345"><b>0.1235 ± 0.0100</b>' in text
    assert text.count("<tr>") == 4
