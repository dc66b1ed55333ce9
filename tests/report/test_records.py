import pytest

from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from recorded import write_run


def test_seeds_join_in_a_cell_and_options_do_not(tmp_path):
    for seed in (0, 1):
        for alpha in (0.5, 0.9):
            write_run(tmp_path / f"{alpha}_{seed}", seed=seed, config={"alpha": alpha}, sshp=0.1 * seed + alpha / 2)
    records = Records([tmp_path])
    assert sorted(len(cell.runs) for cell in records.cells) == [2, 2]
    assert records.tuned == ["kd_method.alpha"]
    chosen = records.chosen(records.cells, "sshp")
    assert list(chosen) == ["BRCD"]
    assert chosen["BRCD"].first.results["method"]["alpha"] == 0.9
    assert chosen["BRCD"].first.row["seed"] == 0
    assert chosen["BRCD"].values("map_sshp") == pytest.approx([0.45, 0.55])
    assert chosen["BRCD"].validation == pytest.approx(0.51)


def test_options_are_chosen_by_validation_and_never_by_a_test(tmp_path):
    good = write_run(tmp_path / "good", config={"alpha": 0.1}, sshp=0.4)
    lucky = write_run(tmp_path / "lucky", config={"alpha": 0.2}, sshp=0.3)
    text = (lucky / "results.json").read_text()
    (lucky / "results.json").write_text(text.replace('"test/map_sshp": 0.3', '"test/map_sshp": 0.9'))
    records = Records([tmp_path])
    assert records.chosen(records.cells, "sshp")["BRCD"].first.folder == good.resolve()


def test_a_paradigm_prefers_the_runs_that_watched_it(tmp_path):
    write_run(tmp_path / "a", paradigm="sshp", sshp=0.9)
    write_run(tmp_path / "b", paradigm="ashp", sshp=0.5)
    write_run(tmp_path / "c", kd_method="kl", paradigm="sshp", sshp=0.4)
    records = Records([tmp_path])
    chosen = records.chosen(records.cells, "ashp")
    assert chosen["BRCD"].first.row["paradigm"] == "ashp"
    assert chosen["KL"].first.row["paradigm"] == "sshp"


def test_other_splits_are_other_data(tmp_path):
    write_run(tmp_path / "a", split="111111aa")
    write_run(tmp_path / "b", split="222222bb", sshp=0.9, kd_method="kl")
    write_run(tmp_path / "c", split="33", dataset="fake")
    names = {run.row["dataset"] for run in Records([tmp_path]).runs}
    assert names == {"digits (split 111111)", "digits (split 222222)", "fake"}


def folder_run(folder, name, split, seed=0, kind="image_folder", **more):
    options = {"type": kind, "root": f"/home/someone/{name}"}
    return write_run(folder, split=split, seed=seed, options=options, dataset=kind, codes=False, **more)


def test_folders_have_names_of_their_own_and_are_not_merged(tmp_path):
    folder_run(tmp_path / "a", "cats", "1" * 8)
    folder_run(tmp_path / "b", "one/photos", "2" * 8)
    folder_run(tmp_path / "c", "two/photos", "3" * 8, seed=1)
    records = Records([tmp_path])
    assert [run.row["dataset"] for run in records.runs] == ["cats", "photos (split 222222)", "photos (split 333333)"]
    assert len(records.cells) == 3


def test_a_folder_of_the_same_images_is_the_same_data_set_elsewhere(tmp_path):
    folder_run(tmp_path / "a", "cats", "1" * 8)
    folder_run(tmp_path / "b", "copy_of_cats", "1" * 8, seed=1)
    folder_run(tmp_path / "c", "copy_of_cats", "1" * 8)
    records = Records([tmp_path])
    assert [run.row["dataset"] for run in records.runs] == ["cats", "cats"]
    assert len(records.cells) == 1
    assert any("/c repeats " in problem for problem in records.problems)


def test_names_tell_apart_what_shares_a_name(tmp_path):
    write_run(tmp_path / "a", kd_method="none")
    write_run(tmp_path / "b", kd_method="brcd_wo_bm")
    write_run(tmp_path / "c", kd_method="sp", config={"variant": "batch"})
    write_run(tmp_path / "d", kd_method="sp", config={"variant": "per_sample"})
    write_run(tmp_path / "e", kd_method="crd", profile="release")
    records = Records([tmp_path])
    names = {records.label(run) for run in records.runs}
    assert names == {"NO KD", "BRCD w/o BM", "SP (variant batch)", "SP (variant per_sample)", "CRD (release)"}


def test_what_cannot_be_read_is_named_and_left_out(tmp_path):
    write_run(tmp_path / "good")
    write_run(tmp_path / "unfinished").joinpath("DONE").unlink()
    for name, text in {
        "cut": '{"schema_version": 2, "met',
        "foreign": '{"a": 1}',
        "other": '{"schema_version": 2}',
    }.items():
        write_run(tmp_path / name).joinpath("results.json").write_text(text)
    write_run(tmp_path / "missing").joinpath("results.json").unlink()
    write_run(tmp_path / "again")
    records = Records([tmp_path])
    assert len(records.runs) == 1
    problems = "\n".join(records.problems)
    for words in (
        "unfinished did not finish",
        "cut/results.json cannot be read",
        "foreign/results.json is not a results",
    ):
        assert words in problems
    for words in ("other/results.json has no 'row'", "missing/results.json cannot be read", "repeats"):
        assert words in problems
    assert len(records.problems) == 6


def test_single_figures_show_the_setting_with_most_runs(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", seed=seed, bits=32)
    write_run(tmp_path / "b", bits=64)
    write_run(tmp_path / "c", dataset="other")
    (cell,) = Records([tmp_path]).reference().values()
    assert (cell.first.row["bits"], cell.first.row["dataset"], len(cell.runs)) == (32, "digits", 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnfilledError, match="needs a finished run"):
        Records([tmp_path / "empty"]).reference()
