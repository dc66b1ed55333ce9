import pytest

from brcd_lightning.data.image_list import image_list
from brcd_lightning.errors import InputError
from data import stand_ins
from data.stand_ins import write_lines
from data.test_sources import assert_same_images, fail_once


def test_one_list_is_drawn_from(tmp_path):
    options = stand_ins.image_list(tmp_path)
    splits = image_list(**options)
    assert splits.sizes() == {"train": 8, "query": 5, "database": 25, "val_query": 3, "val_database": 22}
    assert splits.fingerprint == image_list(**options).fingerprint != image_list(**options, seed=1).fingerprint
    for position in splits.query.tolist():
        number = int(splits.source.ids[position].removeprefix("pictures/").removesuffix(".png"))
        assert splits.source.labels[position] == number % 3
        assert splits.source.load(position)[0, 0, 0] == number


def roles(root, database=range(5, 30)):
    stand_ins.image_list(root)
    members = {"train": range(5, 13), "query": range(5), "database": database}
    for role, numbers in members.items():
        write_lines(root / f"{role}.txt", [f"/old/place/pictures/{n}.png {n % 3}" for n in numbers])
    return {"root": str(root), **{role: f"{role}.txt" for role in members}, "num_val_query": 4}


def test_a_list_for_each_role(tmp_path):
    splits = image_list(**roles(tmp_path))
    assert splits.sizes() == {"train": 8, "query": 5, "database": 25, "val_query": 4, "val_database": 21}
    assert [splits.source.ids[p] for p in splits.train.tolist()] == [f"pictures/{n}.png" for n in range(5, 13)]


def test_queries_leave_a_database_that_holds_them(tmp_path):
    assert image_list(**roles(tmp_path, range(30))).sizes()["database"] == 25


def test_training_images_may_lie_outside_the_database(tmp_path):
    splits = image_list(**roles(tmp_path, range(13, 30)))
    assert splits.sizes() == {"train": 8, "query": 5, "database": 17, "val_query": 4, "val_database": 13}


def test_lists_that_disagree_are_refused(tmp_path):
    options = roles(tmp_path)
    write_lines(tmp_path / "train.txt", [f"pictures/{n}.png {(n + 1) % 3}" for n in range(5, 13)])
    with pytest.raises(InputError, match=r"pictures/5\.png has different labels in another list"):
        image_list(**options)


@pytest.mark.parametrize("heads", [("cat,dog", "cat,dog"), ("cat,dog", "dog,cat")])
def test_columns_of_labels_are_the_classes_and_the_same_in_all_lists(tmp_path, heads):
    options = roles(tmp_path)
    for role in ("train", "query", "database"):
        lines = [line.split() for line in (tmp_path / f"{role}.txt").read_text().splitlines()]
        rows = [f"{name},{int(label != '1')},{int(label != '0')}" for name, label in lines]
        write_lines(tmp_path / f"{role}.csv", [f"path,{heads[role == 'query']}", *rows])
        options[role] = f"{role}.csv"
    if heads[0] == heads[1]:
        assert image_list(**options).source.classes == ["cat", "dog"]
    else:
        with pytest.raises(InputError, match="must have the same columns of labels in the same order"):
            image_list(**options)


def test_a_listed_image_that_is_absent_is_named(tmp_path):
    options = stand_ins.image_list(tmp_path)
    (tmp_path / "pictures" / "7.png").unlink()
    with pytest.raises(InputError, match=r"1 unreadable image\(s\): .*7\.png \(.*No such file"):
        image_list(**options)
    splits = image_list(**options, skip_corrupt=True)
    assert list(splits.skipped) == ["pictures/7.png"]
    assert splits.sizes()["database"] == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": None}, "give either dataset.images, or"),
        ({"train": "all.txt"}, "give either dataset.images, or"),
        ({"images": 5}, "dataset.images must be text that is not empty or null, got 5"),
        ({"images": ["all.txt"]}, "dataset.images must be text that is not empty or null, got"),
        ({"query": ""}, "dataset.query must be text that is not empty or null, got ''"),
        ({"num_query": 25}, "need 36 images, got 30; lower them"),
        ({"num_val_query": 0}, "dataset.num_val_query must be a positive integer"),
        ({"images": "none.txt"}, r"none\.txt does not exist"),
        ({"root": None}, "dataset.root is not set"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    given = stand_ins.image_list(tmp_path) | options
    with pytest.raises(InputError, match=message):
        image_list(**given)


@pytest.mark.parametrize("way", ["permission", "restored with its size and time"])
@pytest.mark.parametrize("kind", ["one list", "a list for each role"])
def test_an_image_that_can_be_read_again_keeps_its_place_and_label(tmp_path, monkeypatch, kind, way):
    options = stand_ins.image_list(tmp_path) if kind == "one list" else roles(tmp_path)

    def build():
        return image_list(**options, skip_corrupt=True)

    splits = fail_once(tmp_path, "pictures/7.png", way, monkeypatch, build)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("empty_cache")))
    assert_same_images(splits, tmp_path, build())
    for position, name in enumerate(splits.source.ids):
        assert splits.source.labels[position] == int(name.removeprefix("pictures/").removesuffix(".png")) % 3
