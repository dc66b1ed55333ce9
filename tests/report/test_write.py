import json

import pytest
from PIL import Image

from brcd_lightning.errors import InputError
from brcd_lightning.report.write import DRAWINGS, write_report
from recorded import LATENCY, write_grid, write_run


def test_a_full_grid_fills_everything(tmp_path):
    grid = write_grid(tmp_path / "grid")
    (grid / "latency.json").write_text(json.dumps(LATENCY))
    Image.new("RGB", (30, 20)).save(grid / "2" / "gallery.png")
    page = write_report([grid], tmp_path / "report").read_text()
    names = {path.stem for path in (tmp_path / "report" / "figures").glob("*.svg")}
    assert names == {drawing.name for drawing in DRAWINGS} | {"cost_of_queries", "latency"}
    assert page.count("<figure>") >= len(names)
    assert "Everything is shown." in page
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is fetched
    tables = {path.name for path in (tmp_path / "report" / "tables").iterdir()}
    assert {"table1_1.md", "table1_1.csv", "table1_1.tex", "table2.md", "table3.md", "runs.csv"} <= tables


def test_an_incomplete_grid_is_shown_and_said_to_be_so(tmp_path):
    write_run(tmp_path / "runs" / "0")
    write_run(tmp_path / "runs" / "1", kd_method="kl", codes=False)
    (tmp_path / "runs" / "2" / ".hydra").mkdir(parents=True)
    page = write_report([tmp_path / "runs"], tmp_path / "report").read_text()
    assert "runs/2 did not finish" in page
    assert "map_by_bits (mAP against code length): needs runs with two code lengths or more" in page
    assert "codes.safetensors cannot be read" in page
    assert not (tmp_path / "report" / "figures" / "map_by_bits.png").exists()


def test_an_earlier_report_is_replaced_as_a_whole(tmp_path):
    write_run(tmp_path / "runs" / "0")
    write_report([tmp_path / "runs"], tmp_path / "report")
    (tmp_path / "report" / "figures" / "old.png").touch()
    write_report([tmp_path / "runs"], tmp_path / "report")
    assert not (tmp_path / "report" / "figures" / "old.png").exists()


def test_nothing_to_show_is_an_error_that_says_why(tmp_path):
    (tmp_path / "2" / ".hydra").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no finished run and no latency below(.|\n)*2 did not finish"):
        write_report([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()
