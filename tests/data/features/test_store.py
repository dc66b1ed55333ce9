"""Files of the view store: whole, checked, and completed after a kill."""

import json

import pytest
import torch

from brcd_lightning.data.features import table
from brcd_lightning.data.features.layout import BLOCK_ROWS
from brcd_lightning.data.features.store import FeatureStore, PartWriter
from brcd_lightning.errors import InputError

IMAGES, TRAIN, WIDTH = 700, 40, 3


def make_store(root, dtype="float32", **about):
    return FeatureStore(root, {"weights": "w", **about}, IMAGES, TRAIN, WIDTH, dtype)


def feature(part, item, view):
    """A value that says which image and view it belongs to."""
    return torch.tensor([part.first + view - (part.kind == "evaluation"), item, 0.5])


def features_of(part, block):
    return torch.stack([torch.stack([feature(part, item, view) for view in range(part.rows)]) for item in block])


def build(store, views):
    for part in store.missing({"views": views}):
        writer = PartWriter(store, part)
        for block in writer.todo():
            writer.write(block, features_of(part, block))
        writer.finish()


@pytest.mark.parametrize("in_memory", [0, 1 << 30])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("views", [0, 1, 5, 8])
def test_every_row_is_its_image_and_view(tmp_path, dtype, views, in_memory, monkeypatch):
    monkeypatch.setattr(table, "IN_MEMORY", in_memory)
    store = make_store(tmp_path, dtype)
    build(store, views)
    opened = store.open({"views": views})
    rows = torch.arange(IMAGES + views * TRAIN)[torch.randperm(IMAGES + views * TRAIN)]
    found = opened(rows)
    assert found.dtype == torch.float32
    view = torch.where(rows < IMAGES, -1, (rows - IMAGES) // TRAIN)
    index = torch.where(rows < IMAGES, rows, (rows - IMAGES) % TRAIN)
    assert torch.equal(found, torch.stack([view, index, torch.full_like(view, 0)], dim=1) + torch.tensor([0, 0, 0.5]))


def test_more_views_add_parts_and_keep_the_others(tmp_path):
    build(make_store(tmp_path), 2)
    store = make_store(tmp_path)
    written = (store.folder / "views_1_2").stat().st_mtime_ns
    assert [part.name for part in store.missing({"views": 8})] == ["views_2_4", "views_4_8"]
    build(store, 8)
    assert (store.folder / "views_1_2").stat().st_mtime_ns == written
    assert store.missing({"views": 5}) == []


def test_another_description_is_another_store(tmp_path):
    one, other, same = make_store(tmp_path), make_store(tmp_path, weights="x"), make_store(tmp_path)
    assert one.folder == same.folder
    assert one.folder != other.folder
    assert make_store(tmp_path, dtype="float16").folder != one.folder


def test_an_interrupted_part_goes_on_and_is_invisible_until_whole(tmp_path):
    store = make_store(tmp_path)
    part = store.missing({"views": 0})[0]
    writer = PartWriter(store, part)
    first, *rest = writer.todo()
    assert len(first) == BLOCK_ROWS
    writer.write(first, features_of(part, first))
    del writer  # killed here
    assert store.missing({"views": 0}) == [part]
    again = PartWriter(store, part)
    assert again.todo() == rest
    for block in rest:
        again.write(block, features_of(part, block))
    again.finish()
    assert store.missing({"views": 0}) == []
    assert torch.equal(store.open({"views": 0})(torch.arange(IMAGES)), features_of(part, range(IMAGES))[:, 0])
    assert sorted(path.name for path in store.folder.iterdir()) == ["evaluation", "manifest.json"]


def test_a_block_whose_content_was_lost_is_written_again(tmp_path):
    store = make_store(tmp_path)
    part = store.missing({"views": 0})[0]
    writer = PartWriter(store, part)
    for block in writer.todo():
        writer.write(block, features_of(part, block))
    del writer
    with (store.folder / "evaluation.building").open("r+b") as file:
        file.write(b"lost")
    assert PartWriter(store, part).todo() == [part.blocks[0]]


def test_a_link_in_place_of_a_part_in_the_making_is_not_followed(tmp_path):
    store = make_store(tmp_path / "stores")
    store.folder.mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    (store.folder / "evaluation.building").symlink_to(tmp_path / "precious")
    build(store, 0)
    assert (tmp_path / "precious").read_text() == "precious"
    assert store.missing({"views": 0}) == []


def test_a_kill_between_renaming_and_the_manifest_loses_nothing(tmp_path):
    store = make_store(tmp_path)
    part = store.missing({"views": 0})[0]
    writer = PartWriter(store, part)
    for block in writer.todo():
        writer.write(block, features_of(part, block))
    (store.folder / "evaluation.building").rename(store.folder / "evaluation")
    again = PartWriter(store, part)
    assert again.todo() == []
    again.finish()
    assert store.missing({"views": 0}) == []


def test_a_flipped_byte_is_named(tmp_path):
    store = make_store(tmp_path)
    build(store, 4)
    path = store.folder / "views_2_4"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"views_2_4 is damaged at images 0 to 39; remove"):
        store.open({"views": 4})
    store.open({"views": 2})  # what does not read it is not concerned


def test_a_missing_or_short_part_is_named(tmp_path):
    store = make_store(tmp_path)
    build(store, 0)
    path = store.folder / "evaluation"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="evaluation cannot be read"):
        store.open({"views": 0})
    path.unlink()
    with pytest.raises(InputError, match="evaluation cannot be read"):
        store.open({"views": 0})


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, json.dumps({"about": {}, "parts": {}})])
def test_a_damaged_manifest_is_named(tmp_path, content):
    store = make_store(tmp_path)
    build(store, 0)
    (store.folder / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest.json is damaged .*; remove"):
        store.missing({"views": 0})


@pytest.mark.parametrize("parts", [None, ["evaluation"], "evaluation", {"evaluation": None}, {"evaluation": [1, 2, 3]}])
def test_a_manifest_without_checksums_is_named(tmp_path, parts):
    store = make_store(tmp_path)
    build(store, 0)
    path = store.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parts": parts}))
    with pytest.raises(InputError, match=r"manifest.json is damaged .*; remove"):
        store.missing({"views": 0})


@pytest.mark.parametrize("times", [0, 2])
def test_another_number_of_checksums_is_named(tmp_path, times):
    store = make_store(tmp_path)
    build(store, 0)
    path = store.folder / "manifest.json"
    content = json.loads(path.read_text())
    content["parts"]["evaluation"] *= times
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"is damaged: it holds {3 * times} checksums of evaluation, not 3"):
        store.open({"views": 0})


@pytest.mark.parametrize("journal", ["garbage", "[1]", "5", "[" * 100_000, '{"0": "00"}'])
def test_a_damaged_journal_is_forgotten(tmp_path, journal):
    store = make_store(tmp_path)
    part = store.missing({"views": 0})[0]
    writer = PartWriter(store, part)
    writer.write(part.blocks[0], features_of(part, part.blocks[0]))
    (store.folder / "evaluation.journal.json").write_text(journal)
    assert PartWriter(store, part).todo() == part.blocks


@pytest.mark.parametrize("value", [1e5, float("nan")])
def test_features_that_are_not_finite_are_refused(tmp_path, value):
    store = make_store(tmp_path, "float16")
    part = store.missing({"views": 0})[0]
    with pytest.raises(InputError, match=r"evaluation, images 0 to 255, are not finite in torch.float16"):
        PartWriter(store, part).write(part.blocks[0], torch.full((256, 1, WIDTH), value))
    assert PartWriter(store, part).todo() == part.blocks


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    store = make_store(tmp_path)
    with pytest.raises(InputError, match="no room for 0.00 GB in .* .No space left on device.; free some"):
        PartWriter(store, store.missing({"views": 0})[0])
    assert not list(store.folder.glob("*.building"))
