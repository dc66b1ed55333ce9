import torch
from torch.utils.data import default_collate

from brcd_lightning.data.color_jitter import FIELDS
from brcd_lightning.data.transforms import digit_images, natural_images
from brcd_lightning.distributed.seeding import random_stream


def views(transforms, pixels, count=1):
    return transforms.finish(default_collate([transforms.prepare_view(pixels) for _ in range(count)]))


def evaluated(transforms, pixels):
    return transforms.finish(default_collate([transforms.prepare(pixels)]))


def test_shapes_and_types(generator):
    pixels = torch.randint(0, 256, (3, 40, 50), generator=generator, dtype=torch.uint8)
    for transforms, size in (
        (natural_images(64), 64),
        (natural_images(32, center_crop=False), 32),
        (digit_images(16), 16),
    ):
        for prepared in (transforms.prepare(pixels), transforms.prepare_view(pixels)):
            assert prepared.pixels.shape == (3, size, size)
            assert prepared.pixels.dtype == torch.uint8
        for images in (views(transforms, pixels, 3), evaluated(transforms, pixels)):
            assert images.shape[1:] == (3, size, size)
            assert images.dtype == torch.float32


def test_only_views_of_photographs_change_colors(generator):
    pixels = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    assert natural_images(32).prepare_view(pixels).colors.shape == (len(FIELDS),)
    for prepared in (
        natural_images(32).prepare(pixels),
        digit_images(16).prepare_view(pixels),
        digit_images(16).prepare(pixels),
    ):
        assert prepared.colors.shape == (0,)


def test_evaluation_is_fixed_and_views_are_random(generator):
    pixels = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    transforms = natural_images(32)
    assert torch.equal(evaluated(transforms, pixels), evaluated(transforms, pixels))
    assert not torch.equal(views(transforms, pixels), views(transforms, pixels))


def test_views_depend_on_the_stream_alone_and_not_on_batch_mates(generator):
    pixels = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    transforms = natural_images(32)

    def prepared(*key):
        with random_stream(*key):
            return transforms.prepare_view(pixels)

    keys = [(1, 2, view) for view in range(12)]
    together = transforms.finish(default_collate([prepared(*key) for key in keys]))
    torch.rand(7)
    for key, image in zip(keys, together, strict=True):
        assert torch.allclose(transforms.finish(default_collate([prepared(*key)]))[0], image, atol=1e-6)
    assert len(together.unique(dim=0)) == len(keys)


def test_resize_is_the_plain_bilinear_one():
    pixels = torch.zeros(3, 2, 2, dtype=torch.uint8)
    pixels[:, :, 1] = 200
    image = evaluated(natural_images(4, center_crop=False), pixels)[0]
    assert torch.equal(image[0, 0] * 255, torch.tensor([0.0, 50.0, 150.0, 200.0]))
    assert image.equal(image[:1, :1].expand_as(image))


def test_values_are_the_pixels_in_0_to_1(generator):
    pixels = torch.randint(0, 256, (3, 16, 16), generator=generator, dtype=torch.uint8)
    assert torch.equal((evaluated(digit_images(16), pixels)[0] * 255).round().to(torch.uint8), pixels)
    seen = views(natural_images(16), pixels, 40)
    assert 0 <= seen.min() < seen.max() <= 1
