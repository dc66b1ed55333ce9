"""Features in the precision of the trainer."""

import pytest
import torch
from torch.utils.data import default_collate

from brcd_lightning.backbones import small_backbone
from brcd_lightning.data.features.inference import Inference
from brcd_lightning.data.transforms import digit_images
from conftest import network_input

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "numerics"),
    [("32-true", "float32"), ("bf16-mixed", "bf16-mixed"), ("16-mixed", "16-mixed"), ("64-true", "float32")],
)
def test_only_mixed_precision_shapes_features(precision, numerics):
    assert Inference(CPU, precision).numerics == numerics


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_features_are_those_of_the_backbones_under_autocast(splits, precision):
    transforms, positions = digit_images(16), splits.train[:3]
    backbones = [small_backbone(widths, grid=2, freeze="full") for widths in ((4,), (4, 8))]
    images = default_collate([transforms.prepare(splits.source.load(int(position))) for position in positions])
    found = Inference(CPU, precision).features(transforms, backbones, images)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        expected = [backbone(network_input(splits, positions)) for backbone in backbones]
    for features, backbone, online in zip(found, backbones, expected, strict=True):
        assert features.shape == (3, backbone.num_features)
        assert features.dtype == torch.float32
        assert not features.requires_grad
        assert torch.equal(features, online.float())
