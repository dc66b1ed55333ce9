import io

import numpy as np
import pytest
from fastapi import HTTPException
from PIL import Image

from brcd_lightning.deployment.image_index.bundle import Images
from brcd_lightning.deployment.serving.pictures import ImageFiles, decode


@pytest.fixture
def files(tmp_path):
    image = Image.fromarray(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.tiff")
    image.save(tmp_path / "c.jpg")
    (tmp_path / "d.png").write_bytes(b"<html>")
    paths = ["a.png", "b.tiff", "c.jpg", "d.png", "gone.png"]
    return ImageFiles(tmp_path, Images(np.array([0, 2, 5, 6, 9]), paths, np.zeros((5, 1), np.uint8)), 10_000, 1000)


def test_browsers_get_what_they_show(files, tmp_path):
    assert files.picture(0) == ((tmp_path / "a.png").read_bytes(), "image/png")
    assert files.picture(5).media_type == "image/jpeg"
    tiff = files.picture(2)
    assert tiff.media_type == "image/png"
    assert np.array_equal(Image.open(io.BytesIO(tiff.content)), Image.open(tmp_path / "b.tiff"))


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (1, 404, "holds no image 1"),
        (10, 404, "holds no image 10"),
        (9, 404, "is gone"),
        (6, 415, "not an image of a known"),
    ],
)
def test_what_cannot_be_shown_is_refused(files, number, code, told):
    for call in (files.picture, files.thumbnail, files.pixels):
        with pytest.raises(HTTPException) as refused:
            call(number)
        assert refused.value.status_code == code
        assert told in refused.value.detail


def test_large_files_are_not_read(files, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x" * 10_001)
    with pytest.raises(HTTPException) as refused:
        files.picture(0)
    assert refused.value.status_code == 413


def test_thumbnails_follow_their_files(files, tmp_path):
    before = files.thumbnail(0)
    assert files.thumbnail(0) is before
    Image.new("RGB", (10, 12), "red").save(tmp_path / "a.png")
    assert files.thumbnail(0) != before


def test_animations_of_many_pixels_are_refused_before_decoding():
    buffer = io.BytesIO()
    Image.new("RGB", (100, 100)).save(buffer, "GIF")
    with pytest.raises(HTTPException) as refused:
        decode(buffer, 9999)
    assert refused.value.status_code == 413
