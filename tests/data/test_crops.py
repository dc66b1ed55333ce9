"""Crops of whole batches against torchvision, image by image."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from both_devices import DEVICES, computed
from brcd_lightning.data.crops import FIELDS, RandomBoxes, resample, whole_box
from brcd_lightning.data.transforms import natural_images
from brcd_lightning.distributed.seeding import random_stream

LEVEL = 1.0
"""torchvision resizes bytes by whole-number or by real weights, whichever the processor does faster."""


def photographs(count, height, width):
    """Smooth pictures with edges and a little noise (count, 3, height, width)."""
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        picture[height // 3 : height // 2, width // 4 : width // 2] = generator.integers(0, 256, 3)
        pictures.append(np.clip(picture + generator.normal(0, 6, picture.shape), 0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def by_torchvision(image, box, size):
    top, left, height, width, flipped = box.tolist()
    cut = TF.resized_crop(image, top, left, height, width, [size, size], InterpolationMode.BILINEAR, antialias=True)
    return TF.horizontal_flip(cut) if flipped else cut


def random_boxes(images, size):
    drawn = RandomBoxes(v2.RandomResizedCrop(size, scale=(0.3, 1.0)), 0.5)
    torch.manual_seed(0)
    return torch.stack([drawn.draw(image) for image in images])


# Enlarged, as it is, made smaller a little and a lot, and sides of which one grows and one shrinks.
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, 224), (32, 32, 24), (40, 56, 48), (300, 260, 64), (500, 40, 96), (64, 64, 64)],
)
def test_a_batch_is_resized_as_torchvision_does(height, width, size):
    images = photographs(12, height, width)
    boxes = torch.cat([random_boxes(images[1:], size), whole_box(images[0])[None]]).roll(1, dims=0)
    found = resample(images, boxes, size)
    expected = torch.stack([by_torchvision(*each, size) for each in zip(images, boxes, strict=True)]).float()
    gaps = (found - expected).abs()
    assert gaps.max() <= LEVEL
    assert (gaps > 0).float().mean() < 0.05
    assert torch.equal(found, found.round())


def test_shrinking_is_antialiased():
    stripes = (torch.arange(256) % 2 * 200).to(torch.uint8).expand(1, 3, 256, 256)
    found = resample(stripes, whole_box(stripes[0])[None], 32)
    assert (found - 100).abs().max() <= 5  # without, whole stripes would stay or go


def test_draws_are_those_of_the_transforms_that_crop():
    images, transforms = photographs(30, 32, 40), natural_images(32, center_crop=False)
    crop, flip = transforms.view.transforms
    for number, image in enumerate(images):
        with random_stream(number):
            box = dict(zip(FIELDS, transforms.boxes.draw(image).tolist(), strict=True))
            after = torch.rand(1)
        with random_stream(number):
            expected = crop.make_params([image])
            flipped = torch.rand(1) < flip.p
            assert torch.equal(torch.rand(1), after)
        assert box == {**expected, "flipped": int(flipped)}


@pytest.mark.parametrize("side", [32, 300])
def test_views_of_both_ways_are_the_same_up_to_a_level(side):
    images, by_workers = photographs(16, side, side), natural_images(64, center_crop=False)
    on_device = by_workers.for_device(torch.device("cuda"), one_size=True)
    batches = []
    for transforms in (by_workers, on_device):
        prepared = []
        for number, image in enumerate(images):
            with random_stream(7, number):
                prepared.append(transforms.prepare_view(image))
        evaluated = [transforms.prepare(image) for image in images]
        batches.append([transforms.finish(default_collate(each)) for each in (prepared, evaluated)])
        assert prepared[0].pixels.shape[-1] == (side if transforms.crops_on_device else 64)
    for one, other in zip(*batches, strict=True):
        assert one.shape == other.shape == (16, 3, 64, 64)
        assert (one - other).abs().quantile(0.99) < 2 / 255  # a level, which strong colors double
        assert (one - other).abs().max() < 0.05  # and a hue that turns on a gray pixel


@pytest.mark.parametrize("side", [32, 300])
def test_both_ways_have_the_same_distribution(side):
    """Mean and deviation of each pixel and of each image over many views, drawn apart."""
    images, by_workers = photographs(4, side, side), natural_images(24, center_crop=False)
    moments = []
    for seed, transforms in enumerate((by_workers, by_workers.for_device(torch.device("cuda"), one_size=True))):
        torch.manual_seed(seed)
        views = [default_collate([transforms.prepare_view(image) for _ in range(400)]) for image in images]
        finished = torch.stack([transforms.finish(each) for each in views])  # (4, 400, 3, 24, 24)
        whole = finished.mean(dim=(-2, -1))
        moments.append([finished.mean(dim=1), finished.std(dim=1), whole.mean(dim=1), whole.std(dim=1)])
    for (one, other), bound in zip(zip(*moments, strict=True), (0.08, 0.08, 0.04, 0.04), strict=True):
        assert (one - other).abs().max() < bound
        assert (one - other).mean().abs() < 0.01


def test_a_gpu_crops_where_images_have_one_size():
    plain = natural_images(32, center_crop=False)
    assert plain.for_device(torch.device("cuda"), one_size=True).crops_on_device
    assert not plain.for_device(torch.device("cpu"), one_size=True).crops_on_device
    assert not plain.for_device(torch.device("cuda"), one_size=False).crops_on_device
    assert not natural_images(32).for_device(torch.device("cuda"), one_size=True).crops_on_device


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_gives_the_same(device):
    images = photographs(40, 48, 64)
    boxes, resampled = random_boxes(images, 224), partial(resample, size=224)
    gaps = (computed(resampled, images, boxes, device=device) - resampled(images, boxes)).abs()
    assert gaps.max() <= LEVEL  # a value between two levels
    assert (gaps > 0).float().mean() < 1e-4
