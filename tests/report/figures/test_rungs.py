import pytest

from brcd_lightning.report.figures.rungs import ladder_lines, ladder_lines_of_float_queries
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from recorded import write_run


def write_rungs(folder):
    for bits in (16, 32):
        write_run(folder / f"itq{bits}", "none", 0, bits, 0.3, codes=False, epochs=0, hashing_model="itq")
        write_run(folder / f"lsq{bits}", "lsq", 0, bits, 0.4, codes=False, epochs=0)
    write_run(folder / "kl", "kl", codes=False, more={"test/map_sshp_float": 0.6, "test/map_ashp_float": 0.7})
    return Records([folder])


def test_each_rung_is_a_line_with_its_interval(tmp_path):
    (figure,) = ladder_lines(write_rungs(tmp_path))
    left, middle, right = figure.axes
    assert [panel.get_title() for panel in (left, middle, right)] == ["teacher on both sides", "SSHP", "ASHP"]
    assert [len(panel.containers) for panel in (left, middle, right)] == [1, 3, 2]
    line = middle.containers[0]
    assert list(line.lines[0].get_xdata()) == [16, 32]
    assert list(line.lines[0].get_ydata()) == [0.3, 0.3]
    assert line.has_yerr
    ends = line.lines[2][0].get_segments()[0][:, 1]
    assert list(ends) == pytest.approx([0.2, 0.4])
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"ITQ", "LSQ, cibhash", "KL, cibhash"}


def test_float_queries_are_drawn_apart(tmp_path):
    (figure,) = ladder_lines_of_float_queries(write_rungs(tmp_path))
    assert [len(panel.containers) for panel in figure.axes] == [0, 1, 1]


def test_runs_without_a_closed_form_are_no_ladder(tmp_path):
    write_run(tmp_path / "one", codes=False)
    with pytest.raises(UnfilledError, match=r"fitted without training: \+sweep=ladder"):
        ladder_lines(Records([tmp_path]))
