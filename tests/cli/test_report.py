from brcd_lightning.cli import main
from recorded import write_run


def test_the_command_says_where_the_page_is(tmp_path, capsys):
    write_run(tmp_path / "runs" / "0", codes=False)
    assert main.run(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "report")]) == 0
    assert f"Report: {tmp_path / 'report' / 'report.html'}" in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path, capsys):
    assert main.run(["report", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main.run(["report"]) == 2
    assert "the following arguments are required: DIR" in capsys.readouterr().err
