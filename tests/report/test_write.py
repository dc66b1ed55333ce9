import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from brcd_lightning.errors import InputError
from brcd_lightning.report import write
from brcd_lightning.report.catalog import SCORES, figure, find_figures
from brcd_lightning.report.write import write_report
from recorded import LATENCY, write_grid, write_run


def test_a_full_grid_fills_everything(tmp_path):
    grid = write_grid(tmp_path / "grid")
    (grid / "latency.json").write_text(json.dumps(LATENCY))
    Image.new("RGB", (30, 20)).save(grid / "2" / "gallery.png")
    page = write_report([grid], tmp_path / "report").read_text()
    names = {path.stem for path in (tmp_path / "report" / "figures").glob("*.svg")}
    assert names == {each.name for each in find_figures()}
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


def test_only_what_an_earlier_report_wrote_is_removed(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "figures" / str(seed), seed=seed, bits=16 + 16 * seed, codes=False)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "mine.txt").touch()
    write_report([tmp_path / "figures"], tmp_path)
    assert (tmp_path / "figures" / "map_by_bits.svg").exists()
    write_report([tmp_path / "figures" / "0"], tmp_path)
    assert not (tmp_path / "figures" / "map_by_bits.svg").exists()
    assert (tmp_path / "tables" / "mine.txt").exists()
    assert (tmp_path / "figures" / "1" / "results.json").exists()


def test_one_damaged_run_costs_its_figures_and_not_the_report(tmp_path):
    run = write_run(tmp_path / "runs" / "0")
    tensors = load_file(run / "codes.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if name != "query_labels"}, run / "codes.safetensors")
    page = write_report([tmp_path / "runs"], tmp_path / "report").read_text()
    assert "codes.safetensors has no query_labels" in page


def test_a_damaged_gallery_and_a_damaged_list_of_files_do_not_end_a_report(tmp_path):
    run = write_run(tmp_path / "runs" / "0", codes=False)
    (run / "gallery.png").write_bytes(b"<script>")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "files.txt").write_bytes(b"\xff\xfe\n")
    page = write_report([tmp_path / "runs"], tmp_path / "report").read_text()
    assert f"{run / 'gallery.png'} is not a PNG file, or a damaged one." in page
    assert not list((tmp_path / "report" / "figures").glob("gallery*"))


def test_a_bug_in_a_figure_is_not_taken_for_missing_data(tmp_path, monkeypatch):
    @figure("broken", section=SCORES, order=1, caption="A bug")
    def broken(records):
        return 1 / len(records.problems)

    write_run(tmp_path / "runs" / "0", codes=False)
    monkeypatch.setattr(write, "find_figures", lambda: [broken])
    with pytest.raises(ZeroDivisionError):
        write_report([tmp_path / "runs"], tmp_path / "report")


def test_every_latency_has_its_table_and_figure(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("a", "b"):
        (runs / f"latency_{name}.json").write_text(json.dumps(LATENCY))
    (runs / "latency_c.json").write_text("{")
    page = write_report([runs], tmp_path / "report").read_text()
    assert "latency_c.json cannot be read" in page
    for path in ("tables/table3_1.md", "tables/table3_2.md", "figures/latency_1.png", "figures/latency_2.png"):
        assert (tmp_path / "report" / path).exists()


def test_codes_of_any_length_and_collapsed_codes_are_drawn(tmp_path):
    write_run(tmp_path / "odd" / "0", bits=12)
    page = write_report([tmp_path / "odd"], tmp_path / "report").read_text()
    assert "bit_frequencies" not in page.partition("Not shown</h2>")[2]
    run = write_run(tmp_path / "same" / "0")
    for name in ("codes", "teacher_codes"):
        path = run / f"{name}.safetensors"
        same = {key: torch.ones_like(value) for key, value in load_file(path).items()}
        save_file({key: load_file(path)[key] if "labels" in key else value for key, value in same.items()}, path)
    page = write_report([tmp_path / "same"], tmp_path / "report").read_text()
    assert "have collapsed" in page


def test_a_file_is_no_folder(tmp_path):
    write_run(tmp_path / "runs" / "0", codes=False)
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="out is a file"):
        write_report([tmp_path / "runs"], tmp_path / "out")


def test_nothing_to_show_is_an_error_that_says_why(tmp_path):
    (tmp_path / "2" / ".hydra").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no finished run and no latency below(.|\n)*2 did not finish"):
        write_report([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()
