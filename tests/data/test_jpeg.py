import io

import numpy as np
import pytest
import torch
from PIL import Image

from brcd_lightning.data import image_scan, jpeg
from data.test_image_scan import corners, stored_with

simplejpeg = pytest.importorskip("simplejpeg", reason="the extra 'jpeg' is not installed")


def noise(height=61, width=83, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_both(content, monkeypatch):
    """What both ways make of a file: pixels and whether they were turned, or the message of an error."""
    found = []
    for way in (jpeg.decoder(), None):
        monkeypatch.setattr(jpeg, "decoder", lambda way=way: way)
        try:
            found.append(image_scan._decode(content))
        except (OSError, ValueError) as error:
            found.append(str(error))
    monkeypatch.undo()
    return found


def test_it_is_in_use():
    assert jpeg.decoder() is not None
    content = saved(noise())
    assert jpeg.jpeg_pixels(content, Image.open(io.BytesIO(content))) is not None


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_pixels_are_those_of_pil(monkeypatch, subsampling, progressive, quality):
    for seed, (height, width) in enumerate([(1, 1), (1, 50), (7, 3), (16, 16), (61, 83)]):
        content = saved(noise(height, width, seed), subsampling=subsampling, progressive=progressive, quality=quality)
        (fast, _), (slow, _) = by_both(content, monkeypatch)
        assert torch.equal(fast, slow)


@pytest.mark.parametrize("progressive", [False, True])
def test_files_without_metadata_need_not_be_opened_by_pil(monkeypatch, progressive):
    content = saved(noise(), progressive=progressive, comment=b"any", optimize=True)
    expected, _ = image_scan._decode(content)
    monkeypatch.setattr(Image, "open", None)
    assert torch.equal(image_scan._decode(content)[0], expected)
    assert jpeg.plain_jpeg_pixels(content, below=62) is not None
    assert jpeg.plain_jpeg_pixels(content, below=61) is None


@pytest.mark.parametrize(
    "content",
    [
        saved(noise(), exif=Image.Exif()),
        saved(noise(), exif=stored_with(3, corners())[1]),
        saved(noise(), icc_profile=b"x"),
        saved(noise().convert("L")),
        saved(noise().convert("CMYK")),
        saved(noise(), keep_rgb=True),
        saved(noise(), "PNG"),
        saved(noise())[:100],
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8\xff\xe0\x00\x10",
        b"\xff\xd8\xff\xe0\x00\x02\xff\xc0",
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"",
    ],
)
def test_all_others_must(content):
    assert jpeg.plain_jpeg_pixels(content) is None


def test_very_large_ones_are_left_to_the_warning_of_pil(monkeypatch):
    content = saved(noise())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 61 * 83 - 1)
    assert jpeg.plain_jpeg_pixels(content) is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert jpeg.plain_jpeg_pixels(content) is not None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_photographs_are_turned_alike(monkeypatch, orientation, kind):
    turned, metadata = stored_with(orientation, corners())
    (fast, redrawn), (slow, also) = by_both(saved(turned, kind, exif=metadata), monkeypatch)
    assert torch.equal(fast, slow)
    assert redrawn is also is (orientation > 1)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes_are_left_to_pil(monkeypatch, mode):
    content = saved(noise().convert(mode))
    assert jpeg.jpeg_pixels(content, Image.open(io.BytesIO(content))) is None
    (fast, _), (slow, _) = by_both(content, monkeypatch)
    assert torch.equal(fast, slow)


def test_colours_that_are_stored_as_they_are(monkeypatch):
    (fast, _), (slow, _) = by_both(saved(noise(), keep_rgb=True), monkeypatch)
    assert torch.equal(fast, slow)


def test_damaged_files_end_alike(monkeypatch):
    content = saved(noise(200, 300))
    middle = len(content) // 2
    damaged = [
        *(content[:length] for length in (20, 300, middle, len(content) - 20, len(content) - 1)),
        content[:middle] + b"\xff\x00" * 20 + content[middle:],
        content[:middle] + bytes(200) + content[middle + 200 :],
        content + b"more",
    ]
    for each in damaged:
        fast, slow = by_both(each, monkeypatch)
        if isinstance(slow, str):
            assert fast == slow
        else:
            assert torch.equal(fast[0], slow[0])


def test_a_build_that_makes_other_pixels_is_not_used(monkeypatch):
    real = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda content, colours: real(content, colours) ^ 1)
    jpeg.decoder.cache_clear()
    assert jpeg.decoder() is None
    monkeypatch.undo()
    jpeg.decoder.cache_clear()
    assert jpeg.decoder() is not None
