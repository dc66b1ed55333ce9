import hashlib
import json
import os

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from brcd_lightning.data import image_scan
from brcd_lightning.errors import InputError
from data.stand_ins import write_image


@pytest.fixture
def tree(tmp_path):
    for name in ("cat", "dog"):
        for number in range(6):
            write_image(tmp_path / name / f"{number}.png", number)
    return tmp_path


def names_in(tree):
    return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))


def test_sixteen_bits_are_scaled_and_cmyk_is_converted(tmp_path):
    ramp = np.linspace(0, 65535, 63).astype(np.uint16).reshape(7, 9)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert torch.equal(
        image_scan.read_image(tmp_path / "deep.png"), torch.from_numpy((ramp >> 8).astype(np.uint8)).expand(3, 7, 9)
    )
    Image.new("CMYK", (9, 7), (255, 0, 0, 0)).save(tmp_path / "print.jpg", quality=100)
    cyan = image_scan.read_image(tmp_path / "print.jpg")[:, 3, 4]
    assert cyan[0] < 10
    assert cyan[1:].min() > 245


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_values_of_unknown_range_are_refused(tmp_path, kind, mode):
    Image.fromarray(np.full((7, 9), 200, dtype=kind), mode=mode).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match="32 bits a value, of unknown range"):
        image_scan.read_image(tmp_path / "deep.tif")


@pytest.mark.parametrize(("content", "reason"), [(b"", "the file is empty"), (b"<html>", "no image format")])
def test_the_reason_is_the_same_in_every_run(tmp_path, content, reason):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        image_scan.read_image(tmp_path / "bad.png")


def test_a_file_that_has_changed_since_the_scan_is_refused(tree):
    names = names_in(tree)
    digests = image_scan.scan_files(tree, names, skip_corrupt=False).digests
    image_scan.read_image(tree / names[0], digest=digests[0])
    (tree / names[0]).write_bytes((tree / names[1]).read_bytes())
    with pytest.raises(ValueError, match="it has changed since it was checked; start again"):
        image_scan.read_image(tree / names[0], digest=digests[0])


def test_a_scan_that_cannot_be_remembered_is_done_again(tree, monkeypatch):
    def refuse(path, text):
        raise IsADirectoryError(path)

    monkeypatch.setattr(image_scan, "write_text", refuse)
    assert None not in image_scan.scan_files(tree, names_in(tree), skip_corrupt=False).digests


def test_bombs_are_unreadable_as_others_are(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    with pytest.raises(ValueError, match="more pixels than PIL decodes"):
        image_scan.read_image(tmp_path / "a.png")


def test_thin_images_are_refused_before_they_are_decoded(tmp_path):
    Image.new("L", (1, 101)).save(tmp_path / "thin.png")
    Image.new("L", (2, 200)).save(tmp_path / "narrow.png")
    with pytest.raises(ValueError, match="1 x 101 pixels, too thin"):
        image_scan.read_image(tmp_path / "thin.png")
    with pytest.raises(ValueError, match="too thin"):
        image_scan.to_pixels(Image.new("RGB", (1000, 9)))
    assert image_scan.read_image(tmp_path / "narrow.png").shape == (3, 200, 2)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such files")
def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # whose reader would wait for ever
    (tmp_path / "folder.png").mkdir()
    write_image(tmp_path / "a.png", 1)
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(ValueError, match="a folder, a pipe or a device, not a file"):
            image_scan.read_image(tmp_path / name)
    scan = image_scan.scan_files(tmp_path, ["a.png", "pipe.png"], skip_corrupt=True)
    assert list(scan.unreadable) == ["pipe.png"]


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (9, 7), color) for color in ("red", "blue")]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert image_scan.read_image(tmp_path / name)[:, 3, 4].tolist() == [255, 0, 0]


def corners():
    """A picture of four colours, so that every turn and mirroring shows; smooth, so that JPEG keeps it."""
    image = Image.new("RGB", (64, 32))
    for place, color in (((0, 0), "red"), ((32, 0), "lime"), ((0, 16), "blue"), ((32, 16), "yellow")):
        image.paste(color, (*place, place[0] + 32, place[1] + 16))
    return image


def stored_with(orientation, image):
    """The image as a camera that was held otherwise stores it."""
    inverse = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    turned = image.transpose(image_scan._TURNS[inverse[orientation]]) if orientation in inverse else image
    metadata = Image.Exif()
    metadata[ExifTags.Base.Orientation] = orientation
    return turned, metadata


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_all_orientations_of_a_camera_give_the_same_upright_pixels(tmp_path, suffix):
    image = corners()
    exact = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    image.save(tmp_path / f"upright.{suffix}", **exact)
    expected = image_scan.read_image(tmp_path / f"upright.{suffix}").int()
    for orientation in range(1, 9):
        turned, metadata = stored_with(orientation, image)
        turned.save(tmp_path / f"{orientation}.{suffix}", exif=metadata, **exact)
        found = image_scan.read_image(tmp_path / f"{orientation}.{suffix}").int()
        assert found.shape == (3, 32, 64)
        assert (found - expected).abs().max() <= (12 if suffix == "jpg" else 0)


def test_large_jpeg_files_can_be_decoded_at_a_fraction_of_their_size(tmp_path):
    image = corners().resize((640, 320))
    turned, metadata = stored_with(6, image)
    turned.save(tmp_path / "a.jpg", exif=metadata, quality=95)
    image.save(tmp_path / "a.png")
    image.convert("L").save(tmp_path / "grey.jpg")
    full = image_scan.read_image(tmp_path / "a.jpg")
    for at_least, height in ((40, 40), (41, 80), (79, 80), (160, 160), (161, 320), (1000, 320)):
        found = image_scan.read_image(tmp_path / "a.jpg", at_least)
        assert found.shape == (3, height, 2 * height)
        assert image_scan.read_image(tmp_path / "grey.jpg", at_least).shape == found.shape
        quarters = found[:, height // 4 :: height // 2, height // 2 :: height]
        assert (quarters.int() - full[:, 80::160, 160::320].int()).abs().max() < 12, "upright"
    assert image_scan.read_image(tmp_path / "a.png", 40).shape == (3, 320, 640)


@pytest.mark.parametrize("metadata", [b"", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_damaged_metadata_leave_an_image_as_it_is(tmp_path, metadata):
    corners().save(tmp_path / "a.jpg", exif=metadata)
    assert image_scan.read_image(tmp_path / "a.jpg").shape == (3, 32, 64)


def see_through(mode):
    """Red, opaque on the left and fully transparent on the right; grey where a mode has no colours."""
    alpha = Image.new("L", (8, 4), 255)
    alpha.paste(0, (4, 0, 8, 4))
    if mode == "P":
        image = Image.new("P", (8, 4), 1)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.paste(0, (4, 0, 8, 4))
        return image, {"transparency": 0}
    image = Image.new("L" if mode == "LA" else "RGB", (8, 4), 90 if mode == "LA" else "red")
    image.putalpha(alpha)
    return image, {}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    image, options = see_through(mode)
    image.save(tmp_path / "a.png", **options)
    pixels = image_scan.read_image(tmp_path / "a.png")
    assert pixels[:, 0, 0].tolist() == ([90] * 3 if mode == "LA" else [255, 0, 0])
    assert (pixels[:, :, 4:] == 255).all()
    assert torch.equal(image_scan.to_pixels(Image.open(tmp_path / "a.png")), pixels)


def test_half_transparency_is_mixed_with_white():
    assert image_scan.to_pixels(Image.new("RGBA", (1, 1), (255, 0, 0, 128)))[:, 0, 0].tolist() == [255, 127, 127]


def test_only_files_whose_pixels_are_redrawn_have_another_digest(tmp_path):
    opaque = Image.new("RGBA", (8, 4), "red")
    opaque.save(tmp_path / "opaque.png")
    see_through("RGBA")[0].save(tmp_path / "transparent.png")
    for orientation in (1, 6):
        turned, metadata = stored_with(orientation, corners())
        turned.save(tmp_path / f"turned_{orientation}.png", exif=metadata)
    names = names_in(tmp_path)
    found = dict(zip(names, image_scan.scan_files(tmp_path, names, skip_corrupt=False).digests, strict=True))
    plain = {name: hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in names}
    assert [name for name in names if found[name] != plain[name]] == ["transparent.png", "turned_6.png"]


def test_what_was_read_is_remembered_until_it_changes_and_what_was_not_is_tried_again(tree, monkeypatch):
    tried = []
    decode = image_scan._decode
    monkeypatch.setattr(image_scan, "_decode", lambda content: tried.append(content) or decode(content))
    names = names_in(tree)
    broken = tree / names[0]
    whole = broken.read_bytes()
    changed = broken.stat()
    broken.write_bytes(b"x" * len(whole))
    os.utime(broken, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    for again in (len(names), 1):  # all of them, then only the unreadable one
        tried.clear()
        digests, unreadable = image_scan.scan_files(tree, names, skip_corrupt=True)
        assert [name for name, digest in zip(names, digests, strict=True) if digest is None] == [names[0]]
        assert list(unreadable) == [names[0]]
        assert len(tried) == again
    broken.write_bytes(whole)
    tried.clear()
    digests, unreadable = image_scan.scan_files(tree, names, skip_corrupt=False)
    assert not unreadable
    assert len(digests) == len(names)
    assert None not in digests
    assert len(tried) == len(names)


def test_another_image_of_the_same_size_and_time_is_not_taken_for_the_one_before(tree):
    names = names_in(tree)
    image_scan.scan_files(tree, names, skip_corrupt=False)
    changed = tree / names[0]
    content, before = changed.read_bytes(), changed.stat()
    changed.write_bytes(b"x" * len(content))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))  # as tools that copy with all times do
    with pytest.raises(InputError, match=f"1 unreadable.*{names[0]}"):
        image_scan.scan_files(tree, names, skip_corrupt=False)


def test_the_memory_of_an_older_version_is_ignored(tree):
    names = names_in(tree)
    expected = image_scan.scan_files(tree, names, skip_corrupt=False)
    memory = image_scan._digest_file(tree, names)
    for old in (dict.fromkeys(names, "00" * 32), {"version": 2, "digests": dict.fromkeys(names, "00" * 32)}):
        memory.write_text(json.dumps(old))
        assert image_scan.scan_files(tree, names, skip_corrupt=False) == expected
        assert json.loads(memory.read_text())["version"] == image_scan.MEMORY_VERSION


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"a": {"digest": 1}}', '{"a": "xy"}', '{"version": 3, "digests": {"a": "xy"}}']
)
def test_a_damaged_memory_of_the_scan_is_forgotten(tree, content):
    names = names_in(tree)
    expected = image_scan.scan_files(tree, names, skip_corrupt=False)
    memory = image_scan._digest_file(tree, names)
    memory.write_text(content)
    assert image_scan.scan_files(tree, names, skip_corrupt=False) == expected
