import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from brcd_lightning.backbones import Backbone, efficientnet_lite_backbone, timm_backbone, torchvision_backbone
from brcd_lightning.deployment.encoding.folding import folded
from small_encoder import make_encoder

SIZE = 32


def backbone_of(network, features=8):
    return with_statistics(Backbone(network, features, ((0.5,) * 3, (0.5,) * 3), "full"))


def with_statistics(backbone):
    """Batch norms that change something, as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                if values is not None:
                    values.data = 0.5 + torch.rand(values.shape, generator=generator)
    return backbone


def norms(backbone):
    return sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


def images(size=SIZE):
    return torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: timm_backbone("mobilenetv3_small_050", weights=None),
        lambda: timm_backbone("resnet10t", weights=None),
        lambda: efficientnet_lite_backbone(weights=None),
        lambda: torchvision_backbone("mobilenet_v3_small"),
        lambda: torchvision_backbone("resnet18"),
    ],
)
def test_features_stay_but_for_roundings(build):
    torch.manual_seed(0)
    backbone = with_statistics(build())
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    found = folded(backbone, SIZE)
    assert norms(backbone) > 0
    assert norms(found) == 0
    expected = backbone(images())
    assert torch.allclose(found(images()), expected, atol=1e-5 * float(expected.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_networks_without_batch_norms_are_themselves():
    for network in (nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Flatten()):
        backbone = backbone_of(network)
        assert folded(backbone, SIZE) is backbone


class Twice(nn.Module):
    """Its layers are called twice."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images):
        return self.norm(self.norm(self.convolution(images)) + self.convolution(images)).mean((2, 3))


class TwoReaders(Twice):
    """Not only the norm reads what the convolution makes."""

    def forward(self, images):
        values = self.convolution(images)
        return (self.norm(values) + values).mean((2, 3))


class Unusual(nn.Conv2d):
    """A convolution that does not use its weights as they are."""

    def forward(self, images):
        return nn.functional.conv2d(images, self.weight / self.weight.norm(), self.bias)


@pytest.mark.parametrize(
    "build",
    [
        Twice,
        TwoReaders,
        lambda: nn.Sequential(Unusual(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
)
def test_what_cannot_be_folded_stays(build):
    torch.manual_seed(0)
    backbone = backbone_of(build())
    assert folded(backbone, SIZE) is backbone


def test_an_encoder_keeps_its_codes_and_its_fingerprint():
    encoder = make_encoder(bits=64)
    fingerprint, weights = (
        encoder.fingerprint,
        {name: value.clone() for name, value in encoder.network.state_dict().items()},
    )
    pixels = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    codes, values = encoder.encode_pixels(pixels)
    expected_codes, expected_values = encoder.network.encode_soft(pixels.float() / 255)
    assert torch.allclose(values, expected_values, atol=1e-5)
    assert ((values > 0) == (expected_codes > 0))[values.abs() > 1e-5].all()
    assert codes.shape == (50, 8)
    assert encoder.network.state_dict().keys() == weights.keys()
    assert type(encoder)(encoder.network, encoder.description).fingerprint == fingerprint


def test_other_threads_go_on_meanwhile():
    backbone, other, stop = with_statistics(timm_backbone("resnet10t", weights=None)), nn.ReLU(), threading.Event()

    def call_it():
        while not stop.is_set():
            other(torch.ones(2))

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(call_it) for _ in range(2)]
        found = list(map(norms, (folded(backbone, SIZE) for _ in range(5))))
        stop.set()
    assert found == [0] * 5
    assert [call.exception() for call in calls] == [None, None]
