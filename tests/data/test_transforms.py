import torch

from brcd_lightning.data.sampling import random_stream
from brcd_lightning.data.transforms import digit_images, natural_images


def test_shapes_and_types(generator):
    pixels = torch.randint(0, 256, (3, 40, 50), generator=generator, dtype=torch.uint8)
    for transforms, size in (
        (natural_images(64), 64),
        (natural_images(32, center_crop=False), 32),
        (digit_images(16), 16),
    ):
        for transform in transforms:
            image = transform(pixels)
            assert image.shape == (3, size, size)
            assert image.dtype == torch.float32


def test_evaluation_is_fixed_and_views_are_random(generator):
    pixels = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    transforms = natural_images(32)
    assert torch.equal(transforms.evaluation(pixels), transforms.evaluation(pixels))
    assert not torch.equal(transforms.view(pixels), transforms.view(pixels))


def test_views_depend_on_the_stream_alone(generator):
    pixels = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    view = natural_images(32).view
    with random_stream(1, 2, 3):
        first = view(pixels)
    torch.rand(7)
    with random_stream(1, 2, 3):
        assert torch.equal(view(pixels), first)
    with random_stream(1, 2, 4):
        assert not torch.equal(view(pixels), first)


def test_resize_is_the_plain_bilinear_one():
    flat = torch.full((3, 20, 20), 255, dtype=torch.uint8)
    image = natural_images(64, center_crop=False).evaluation(flat)
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(image, expected[:, None, None].expand_as(image), atol=1e-5)
