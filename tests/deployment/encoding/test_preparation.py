import pytest
import torch
from PIL import Image

from brcd_lightning.data.image_scan import read_image
from brcd_lightning.data.transforms import digit_images, natural_images
from brcd_lightning.deployment.encoding.preparation import pixels_of, prepare_each
from brcd_lightning.errors import InputError
from small_encoder import write_images


@pytest.fixture
def paths(tmp_path):
    """Images of several shapes and modes, among them one that is resized alone, and two that are none."""
    shapes = [(32, 32), (20, 24), (24, 20), (32, 32), (20, 24), (400, 300), (32, 32)]
    found = []
    for number, size in enumerate(shapes):
        suffix = (".png", ".jpg")[number % 2]
        (name,) = write_images(tmp_path / str(number), 1, size, seed=number, suffix=suffix)
        found.append(tmp_path / str(number) / name)
    Image.open(found[0]).convert("L").save(found[0])
    (tmp_path / "bad.png").write_bytes(b"no image")
    return [*found[:3], tmp_path / "bad.png", *found[3:], tmp_path / "none.png"]


@pytest.mark.parametrize(
    "transforms",
    [
        natural_images(64),
        natural_images(64, center_crop=False),
        natural_images(20, center_crop=False),
        digit_images(16),
    ],
)
def test_many_at_once_are_the_pixels_of_each_alone(paths, transforms):
    found = prepare_each(paths, transforms.evaluation)
    for path, each in zip(paths, found, strict=True):
        if isinstance(each, Exception):
            assert path.name in ("bad.png", "none.png")
            assert path.name in str(each)
        else:
            assert torch.equal(each, transforms.evaluation(read_image(path)))
            assert each.dtype == torch.uint8


def test_photographs_are_not_collected(tmp_path):
    paths = [tmp_path / name for name in write_images(tmp_path, 3, (400, 300))]
    decoded = []

    def transform(pixels):
        decoded.append(tuple(pixels.shape))
        return pixels[..., :2, :2]

    prepare_each(paths, transform)
    assert decoded == [(3, 300, 400)] * 3


def test_no_images_are_no_input():
    assert prepare_each([], natural_images(16).evaluation) == []


def test_pictures_and_tensors_are_images_too(paths):
    expected = read_image(paths[1])
    for image in (Image.open(paths[1]), expected, str(paths[1])):
        assert torch.equal(pixels_of(image), expected)
    with pytest.raises(InputError, match=r"must be \(3, H, W\) uint8 RGB"):
        pixels_of(expected.float())
