import json

import pytest

from brcd_lightning.data.mscoco import mscoco, read_annotations
from brcd_lightning.errors import InputError
from data import stand_ins
from data.stand_ins import write_lines


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_the_papers_protocol(tmp_path, year):
    splits = mscoco(**stand_ins.mscoco(tmp_path, year=year))
    # 24 images, two of them without an instance
    assert splits.sizes() == {"train": 6, "query": 5, "database": 17, "val_query": 3, "val_database": 14}


def test_both_years_are_the_same_images_and_labels(tmp_path):
    for year in ("2014", "2017"):
        stand_ins.mscoco(tmp_path / year, year=year)
    first, second = (read_annotations(tmp_path / year, 3) for year in ("2014", "2017"))
    assert [name[-16:] for name in first.names] == [name[-16:] for name in second.names]
    assert first.labels.tolist() == second.labels.tolist()


def test_columns_are_categories_by_name_and_rows_images_by_number(tmp_path):
    stand_ins.mscoco(tmp_path)
    names, labels, classes = read_annotations(tmp_path, 3)
    assert classes == ["apple", "car", "zebra"]
    numbers = [int(name[-16:-4]) for name in names]
    assert numbers == sorted(numbers)
    order = [1, 2, 0]  # apple, car, zebra, which the files number 1, 2, 0
    for number, row in zip(numbers, labels.tolist(), strict=True):
        assert row[order.index(number % 3)] == 1
        assert sum(row) in (1, 2)


def test_hashnets_lists_lose_the_queries_from_the_database(tmp_path):
    options = stand_ins.mscoco(tmp_path)
    names = read_annotations(tmp_path, 3).names
    parts = {"train": names[5:11], "test": names[:5], "database": names[:5] + names[11:]}
    for part, members in parts.items():
        write_lines(tmp_path / f"{part}.txt", [f"/home/x/coco/{name} 0 0 1" for name in members])
    splits = mscoco(**options, protocol="hashnet")
    assert splits.sizes() == {"train": 6, "query": 5, "database": 11, "val_query": 3, "val_database": 8}
    assert {splits.source.ids[p] for p in splits.query.tolist()} == set(names[:5])
    assert splits.source.classes == ["apple", "car", "zebra"]


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match=r"annotations are not in .*put instances_train2014\.json"):
        mscoco(str(tmp_path))
    options = stand_ins.mscoco(tmp_path)
    with pytest.raises(InputError, match="must have 80 categories, got 3"):
        mscoco(**{**options, "num_categories": 80})
    with pytest.raises(InputError, match=r"protocol must be one of paper, hashnet"):
        mscoco(**options, protocol="papers")
    with pytest.raises(InputError, match=r"train\.txt does not exist"):
        mscoco(**options, protocol="hashnet")
    path = tmp_path / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    content["annotations"].append({"image_id": 1, "category_id": 0})
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="annotates image 1, which it does not list"):
        mscoco(**options)
    path.write_text("{")
    with pytest.raises(InputError, match=r"instances_val2014\.json is damaged"):
        mscoco(**options)
    path.write_text("[]")
    with pytest.raises(InputError, match="must have images, annotations and categories"):
        mscoco(**options)
    path.unlink()
    with pytest.raises(InputError, match=r"instances_val2014\.json is missing"):
        mscoco(**options)


def entry(kind, **values):
    """A damage: the last entry of a kind gets these values, or loses those that are None."""

    def damage(content):
        changed = content[kind][-1] | values
        content[kind][-1] = {key: value for key, value in changed.items() if value is not None}

    return damage


def again(content):
    content["images"].append(dict(content["images"][0]))


def another_number(content):
    content["images"].append(content["images"][0] | {"id": 10**6})
    content["annotations"].append({"image_id": 10**6, "category_id": 0})
    content["annotations"].append({"image_id": content["images"][0]["id"], "category_id": 0})


def none_of(number):
    def damage(content):
        content["annotations"] = [each for each in content["annotations"] if each["category_id"] != number]

    return damage


@pytest.mark.parametrize(
    ("damage", "parts", "message"),
    [
        (entry("annotations", category_id=77), "train", "with category 77, which it does not list"),
        (entry("annotations", image_id=None), "train", "damaged: an entry has no 'image_id'"),
        (entry("images", file_name=None), "train", "damaged: an entry has no 'file_name'"),
        (entry("images", file_name="../../x.jpg"), "train", "may lie outside"),
        (entry("categories", name="zebra"), "train val", "must have 3 categories, got 3 of 2 names"),
        (again, "train", "lists an image number twice"),
        (another_number, "train", r"names train2014/COCO.*\.jpg 2 times"),
        (none_of(10), "train val", "has label 0 of 0 to 2"),
    ],
)
def test_damaged_annotations_are_one_line(tmp_path, damage, parts, message):
    options = stand_ins.mscoco(tmp_path)
    for part in parts.split():
        path = tmp_path / "annotations" / f"instances_{part}2014.json"
        content = json.loads(path.read_text())
        shown = {each["image_id"] for each in content["annotations"]}
        content["images"] = [image for image in content["images"] if image["id"] in shown]
        damage(content)
        path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        mscoco(**options)
