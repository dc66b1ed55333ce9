import hashlib
import os

import pytest
import torch

from brcd_lightning.data import image_scan
from brcd_lightning.data.sources import ArrayImages, FileImages, readable_images, require_folder
from brcd_lightning.errors import InputError
from data.stand_ins import write_image


def fail_once(root, name, way, monkeypatch, build):
    """Builds a data set while one image cannot be read, and again after that has been mended."""
    path = root / name
    whole, before = path.read_bytes(), path.stat()
    if way == "permission":
        decode = image_scan._decode

        def refuse(content):
            if content == whole:
                raise PermissionError("no permission")
            return decode(content)

        with monkeypatch.context() as patch:
            patch.setattr(image_scan, "_decode", refuse)
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


def test_images_in_memory_are_known_by_their_pixels():
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    images = ArrayImages(pixels, ["a", "b"], torch.tensor([1, 0]))
    assert len(images) == 2
    assert torch.equal(images.load(1), pixels[1])
    assert images.digest(1) == hashlib.sha256(pixels[1].numpy().tobytes()).digest()


def test_names_of_classes_are_one_line_each():
    images = ArrayImages(
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8), ["a"], torch.tensor([0]), ["a\x1b[0m\n cat", "dog"]
    )
    assert images.classes == ["a [0m cat", "dog"]


def test_every_image_needs_a_label():
    with pytest.raises(InputError, match="one label per image, got 2 images and 3 labels"):
        ArrayImages(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ["a", "b"], torch.tensor([0, 1, 1]))


def test_a_file_that_broke_after_the_scan_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png cannot be decoded: the file is empty"):
        FileImages(tmp_path, ["a.png"], torch.tensor([0]), [b""]).load(0)


def test_readable_images_keep_the_order_of_their_names(tmp_path):
    names = ["b.png", "broken.png", "a.png"]
    for shade, name in enumerate(names):
        write_image(tmp_path / name, shade)
    (tmp_path / "broken.png").write_bytes(b"")
    images = readable_images(tmp_path, names, torch.tensor([5, 6, 7]), skip_corrupt=True)
    assert images.ids == ["b.png", "a.png"]
    assert images.labels.tolist() == [5, 7]
    assert [int(images.load(position)[0, 0, 0]) for position in range(2)] == [0, 2]
    assert images.skipped == {"broken.png": "the file is empty"}


def test_a_data_set_without_a_readable_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 1 images of .* can be read, a\.png: the file is empty"):
        readable_images(tmp_path, ["a.png"], torch.tensor([0]), skip_corrupt=True)


def test_a_folder_is_required(tmp_path):
    assert require_folder(str(tmp_path), "images") == tmp_path
    with pytest.raises(InputError, match="dataset.root is not set; point it at the folder of images"):
        require_folder(None, "images")
