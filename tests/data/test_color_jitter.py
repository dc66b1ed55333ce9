"""Batched colors against torchvision, image by image."""

import itertools

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from both_devices import DEVICES, computed
from brcd_lightning.data.color_jitter import FIELDS, ColorJitter, apply_colors

NEUTRAL = dict(zip(FIELDS, (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0), strict=True))
CHANGES = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)


def colors_of(**values):
    return torch.tensor([{**NEUTRAL, **values}[field] for field in FIELDS])


def by_torchvision(image, colors):
    for number in list(itertools.permutations(range(4)))[int(colors[4])]:
        image = CHANGES[number](image, float(colors[number]))
    if colors[5]:
        image = TF.rgb_to_grayscale(image, 3)
    return TF.gaussian_blur(image, 3, float(colors[6])) if colors[6] else image


@pytest.fixture
def images(generator):
    images = torch.rand(40, 3, 11, 14, generator=generator)
    images[:3] = images[:3].mean(dim=1, keepdim=True)  # gray ones have no hue
    images[3], images[4] = 0.0, 1.0
    return images


@pytest.mark.parametrize(
    "colors",
    [
        {"brightness": 1.4},
        {"brightness": 0.6},
        {"contrast": 1.3},
        {"saturation": 0.7},
        {"hue": 0.1},
        {"hue": -0.1},
        {"gray": 1.0},
        {"blur": 0.1},
        {"blur": 1.7},
    ],
    ids=str,
)
def test_each_change_is_torchvisions(images, colors):
    colors = colors_of(**colors)
    found = apply_colors(images, colors.expand(len(images), -1))
    expected = torch.stack([by_torchvision(image, colors) for image in images])
    assert torch.allclose(found, expected, atol=1e-5)


def test_each_image_has_its_own_colors_in_its_own_order(images):
    torch.manual_seed(3)
    colors = torch.stack([ColorJitter(jitter=0.9).draw() for _ in images])
    assert len(colors[:, 4].unique()) > 10
    found = apply_colors(images, colors)
    expected = torch.stack([by_torchvision(*each) for each in zip(images, colors, strict=True)])
    assert torch.allclose(found, expected, atol=1e-5)


def test_neutral_colors_change_nothing_and_inputs_stay(images):
    before = images.clone()
    assert torch.equal(apply_colors(images, colors_of().expand(len(images), -1)), before)
    apply_colors(images, colors_of(brightness=0.5).expand(len(images), -1))
    assert torch.equal(images, before)


def test_draws_follow_their_probabilities_and_ranges():
    torch.manual_seed(0)
    drawn = torch.stack([ColorJitter().draw() for _ in range(4000)])
    jittered = (drawn[:, :4] != torch.tensor([1.0, 1, 1, 0])).any(dim=1)
    assert jittered.float().mean().item() == pytest.approx(0.7, abs=0.03)
    assert drawn[:, 5].mean().item() == pytest.approx(0.2, abs=0.03)
    assert (drawn[:, 6] > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    for factors in drawn[jittered, :3].T:
        assert factors.min().item() == pytest.approx(0.6, abs=0.01)
        assert factors.max().item() == pytest.approx(1.4, abs=0.01)
    assert drawn[:, 3].abs().max().item() == pytest.approx(0.1, abs=0.002)
    assert drawn[jittered, 4].unique().tolist() == list(range(24))
    blurred = drawn[drawn[:, 6] > 0, 6]
    assert blurred.min().item() == pytest.approx(0.1, abs=0.01)
    assert blurred.max().item() == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_gives_the_same(images, device):
    torch.manual_seed(1)
    colors = torch.stack([ColorJitter().draw() for _ in images])
    found = computed(apply_colors, images, colors, device=device)
    assert torch.allclose(found, apply_colors(images, colors), atol=1e-5)
