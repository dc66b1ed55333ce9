import pytest

from conftest import run_command
from data import stand_ins


def check(*overrides, cwd):
    return run_command("check-data", *overrides, cwd=cwd, module="brcd_lightning")


@pytest.mark.parametrize("name", ["mscoco", "mirflickr25k"])
def test_it_prints_what_it_found(tmp_path, name):
    options = stand_ins.ALL[name](tmp_path / "data")
    overrides = [f"dataset.{key}={value}" for key, value in options.items()]
    done = check(f"dataset={name}", *overrides, "data.batch_size=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "annotations/" in done.stdout
    assert {"mscoco": "3 classes: apple, car, zebra", "mirflickr25k": "2 classes: sea, sky"}[name] in done.stdout
    assert "val_query" in done.stdout
    assert "training images are in the database" in done.stdout
    assert list((tmp_path / "outputs" / "splits").glob("*.json"))


def test_it_names_queries_that_the_database_holds_too_and_shows_brackets_in_names(tmp_path):
    root = tmp_path / "images"
    for part, count in (("train", 6), ("test", 2)):
        for place in range(count):
            stand_ins.write_image(root / part / "one" / f"[/{place}].png", 10 * place + len(part))
    (root / "[red]").mkdir()
    (root / "train/one/copy.png").write_bytes((root / "test/one/[/1].png").read_bytes())
    options = [f"dataset.root={root}", "dataset.train_per_class=4", "dataset.val_query_per_class=1"]
    done = check("dataset=image_folder", *options, "data.batch_size=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "images: [red]/, test/, train/" in done.stdout
    assert "Repeated: 1 queries have the content of a database image, such as test/one/[/1].png; " in done.stdout


def test_it_says_what_is_missing(tmp_path):
    (tmp_path / "coco").mkdir()
    done = check("dataset=mscoco", f"dataset.root={tmp_path / 'coco'}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path / 'coco'}: empty" in done.stdout
    assert done.stderr.startswith("error: MSCOCO's annotations are not in")
    assert done.stderr.count("\n") == 1


def test_typos_are_explained(tmp_path):
    done = check("dataset=mscocoo", cwd=tmp_path)
    assert done.returncode == 2
    assert "dataset has no option 'mscocoo'. Did you mean 'mscoco'?" in done.stderr
