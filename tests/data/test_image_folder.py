import hashlib
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from brcd_lightning.data import files
from brcd_lightning.data.cifar10 import cifar10
from brcd_lightning.data.image_folder import image_folder
from brcd_lightning.errors import InputError
from data import stand_ins

COUNTS = {"train_per_class": 3, "val_query_per_class": 1}


def write_images(folder, count, size=(9, 7), mode="RGB"):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new(mode, size, i * 20).save(folder / f"{i:03}.png")


@pytest.fixture
def tree(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / "train" / name, 6)
        write_images(tmp_path / "test" / name, 2)
    return tmp_path


def test_train_and_test_folders(tree):
    splits = image_folder(str(tree), **COUNTS)
    assert splits.sizes() == {"train": 6, "query": 4, "database": 12, "val_query": 2, "val_database": 10}
    assert {splits.source.ids[i].split("/")[0] for i in splits.query.tolist()} == {"test"}
    assert {splits.source.ids[i].split("/")[0] for i in splits.database.tolist()} == {"train"}
    for position in splits.query.tolist():
        assert splits.source.ids[position].split("/")[1] == ("cat", "dog")[splits.source.labels[position]]


def test_plain_class_folders(tree):
    splits = image_folder(str(tree / "train"), query_per_class=2, **COUNTS)
    assert splits.sizes() == {"train": 6, "query": 4, "database": 8, "val_query": 2, "val_database": 6}


def test_fingerprint_follows_the_files_not_their_names(tree):
    before = image_folder(str(tree), **COUNTS).fingerprint
    assert image_folder(str(tree), **COUNTS).fingerprint == before
    Image.new("RGB", (9, 7), 3).save(tree / "test" / "cat" / "000.png")
    assert image_folder(str(tree), **COUNTS).fingerprint != before


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    write_images(tmp_path / "a", 8, mode=mode)
    image = image_folder(str(tmp_path), query_per_class=2, **COUNTS).source.load(0)
    assert image.shape == (3, 7, 9)
    assert image.dtype == torch.uint8


def test_sixteen_bits_are_scaled_and_cmyk_is_converted(tmp_path):
    ramp = np.linspace(0, 65535, 63).astype(np.uint16).reshape(7, 9)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert torch.equal(
        files.read_image(tmp_path / "deep.png"), torch.from_numpy((ramp >> 8).astype(np.uint8)).expand(3, 7, 9)
    )
    Image.new("CMYK", (9, 7), (255, 0, 0, 0)).save(tmp_path / "print.jpg", quality=100)
    cyan = files.read_image(tmp_path / "print.jpg")[:, 3, 4]
    assert cyan[0] < 10
    assert cyan[1:].min() > 245


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_values_of_unknown_range_are_refused(tmp_path, kind, mode):
    Image.fromarray(np.full((7, 9), 200, dtype=kind), mode=mode).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match="32 bits a value, of unknown range"):
        files.read_image(tmp_path / "deep.tif")


def test_an_animation_in_a_class_folder_is_an_image(tree):
    Image.new("RGB", (9, 7), "red").save(tree / "train" / "cat" / "moving.gif")
    assert "train/cat/moving.gif" in image_folder(str(tree), **COUNTS).source.ids


@pytest.mark.parametrize(("content", "reason"), [(b"", "the file is empty"), (b"<html>", "no image format")])
def test_the_reason_is_the_same_in_every_run(tmp_path, content, reason):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        files.read_image(tmp_path / "bad.png")


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (9, 7), color) for color in ("red", "blue")]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert files.read_image(tmp_path / name)[:, 3, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("damage", [b"", b"<html>", None])
def test_a_corrupt_image_is_named_and_skipped_only_on_request(tree, damage):
    bad = tree / "train" / "cat" / "002.png"
    bad.write_bytes(bad.read_bytes()[:40] if damage is None else damage)
    with pytest.raises(InputError) as error:
        image_folder(str(tree), **COUNTS)
    assert "1 unreadable image(s)" in str(error.value)
    assert str(bad) in str(error.value)
    assert "dataset.skip_corrupt=true" in str(error.value)
    splits = image_folder(str(tree), **COUNTS, skip_corrupt=True)
    assert list(splits.skipped) == ["train/cat/002.png"]
    assert splits.sizes()["database"] == 11


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "dataset.root is not set"),
        ("missing", "is not a folder; point it at"),
        ("empty", "holds no class folders"),
        ("hollow", "holds no images"),
    ],
)
def test_wrong_roots_are_refused(tmp_path, root, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        image_folder(root and str(tmp_path / root), query_per_class=1, **COUNTS)
    assert message in str(error.value)


def test_plain_folders_need_a_query_count(tree):
    with pytest.raises(InputError, match="dataset.query_per_class must be set"):
        image_folder(str(tree / "train"), **COUNTS)


def test_unequal_class_folders_are_refused(tree):
    write_images(tree / "train" / "emu", 3)
    with pytest.raises(InputError, match="must hold the same class folders"):
        image_folder(str(tree), **COUNTS)


def test_cifar10_reads_image_files_too(tree):
    assert cifar10(str(tree), **COUNTS).sizes()["query"] == 4


def test_cifar10_that_is_absent_says_where_to_put_it(tmp_path):
    with pytest.raises(InputError, match="CIFAR-10 is not in .*Set dataset.root=DIR"):
        cifar10(str(tmp_path / "nowhere"), download=False)


def test_cifar10_official_archive(tmp_path, monkeypatch):
    """The official layout, through torchvision; its download is replaced by a small stand-in."""
    import numpy as np
    from torchvision import datasets

    class StandIn:
        def __init__(self, root, train, download):
            generator = np.random.default_rng(train)
            count = 60 if train else 20
            self.data = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % 10 for i in range(count)]

        def __len__(self):
            return len(self.data)

    monkeypatch.setattr(datasets, "CIFAR10", StandIn)
    splits = cifar10(str(tmp_path), **COUNTS)
    assert splits.sizes() == {"train": 30, "query": 20, "database": 60, "val_query": 10, "val_database": 50}
    assert splits.source.load(0).shape == (3, 32, 32)
    assert {splits.source.ids[i].split("/")[0] for i in splits.query.tolist()} == {"test"}


def test_what_was_read_is_remembered_until_it_changes_and_what_was_not_is_tried_again(tree, monkeypatch):
    tried = []
    decode = files._decode
    monkeypatch.setattr(files, "_decode", lambda content: tried.append(content) or decode(content))
    names, _ = files.list_class_images(tree, "", files.class_folders(tree))
    broken = tree / names[0]
    whole = broken.read_bytes()
    changed = broken.stat()
    broken.write_bytes(b"x" * len(whole))
    os.utime(broken, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    for again in (len(names), 1):  # all of them, then only the unreadable one
        tried.clear()
        digests, unreadable = files.scan_files(tree, names, skip_corrupt=True)
        assert [name for name, digest in zip(names, digests, strict=True) if digest is None] == [names[0]]
        assert list(unreadable) == [names[0]]
        assert len(tried) == again
    broken.write_bytes(whole)
    os.utime(broken, ns=(changed.st_atime_ns, changed.st_mtime_ns))  # by size and time the same file as before
    tried.clear()
    digests, unreadable = files.scan_files(tree, names, skip_corrupt=False)
    assert not unreadable
    assert len(digests) == len(names)
    assert None not in digests
    assert len(tried) == 1


def fail_once(root, name, way, monkeypatch, build):
    """Builds a data set while one image cannot be read, and again after that has been mended."""
    path = root / name
    whole, before = path.read_bytes(), path.stat()
    if way == "permission":
        decode = files._decode

        def refuse(content):
            if content == whole:
                raise PermissionError("no permission")
            return decode(content)

        with monkeypatch.context() as patch:
            patch.setattr(files, "_decode", refuse)
            first = build()
    else:
        path.write_bytes(b"x" * len(whole))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        first = build()
        path.write_bytes(whole)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(first.skipped) == [name]
    return build()


def assert_same_images(splits, root, expected):
    """Names, digests and labels are those of a scan without memory, and the digests those of the files."""
    assert splits.skipped == expected.skipped == {}
    assert splits.source.ids == expected.source.ids
    assert splits.source.digests == expected.source.digests
    assert torch.equal(splits.source.labels, expected.source.labels)
    for name, digest in zip(splits.source.ids, splits.source.digests, strict=True):
        assert digest == hashlib.sha256((root / name).read_bytes()).digest()
    assert splits.fingerprint == expected.fingerprint


@pytest.mark.parametrize("way", ["permission", "restored with its size and time"])
def test_an_image_that_can_be_read_again_keeps_its_place_and_label(tmp_path, monkeypatch, way):
    for number, name in enumerate(("cat", "dog", "emu")):
        for image in range(8):
            stand_ins.write_image(tmp_path / name / f"{image}.png", 10 * number + image)

    def build():
        return image_folder(str(tmp_path), query_per_class=2, **COUNTS, skip_corrupt=True)

    splits = fail_once(tmp_path, "cat/2.png", way, monkeypatch, build)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("empty_cache")))
    assert_same_images(splits, tmp_path, build())
    for position, name in enumerate(splits.source.ids):
        assert ("cat", "dog", "emu")[splits.source.labels[position]] == name.split("/")[0]


def test_the_memory_of_an_older_version_is_ignored(tree):
    names, _ = files.list_class_images(tree, "", files.class_folders(tree))
    expected = files.scan_files(tree, names, skip_corrupt=False)
    memory = files._digest_file(tree, names)
    for old in (dict.fromkeys(names, "00" * 32), {"version": 1, "digests": dict.fromkeys(names, "00" * 32)}):
        memory.write_text(json.dumps(old))
        assert files.scan_files(tree, names, skip_corrupt=False) == expected
        assert json.loads(memory.read_text())["version"] == files.MEMORY_VERSION


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"a": {"digest": 1}}', '{"a": "xy"}', '{"version": 2, "digests": {"a": "xy"}}']
)
def test_a_damaged_memory_of_the_scan_is_forgotten(tree, content):
    names, _ = files.list_class_images(tree, "", files.class_folders(tree))
    expected = files.scan_files(tree, names, skip_corrupt=False)
    memory = files._digest_file(tree, names)
    memory.write_text(content)
    assert files.scan_files(tree, names, skip_corrupt=False) == expected
