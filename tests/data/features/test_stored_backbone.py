"""A stored backbone stands for its backbone: the same weights, keys and facts; features by row."""

import copy

import numpy as np
import pytest
import torch

from brcd_lightning.backbones import Backbone, small_backbone
from brcd_lightning.data.features.stored_backbone import StoredBackbone
from brcd_lightning.data.features.table import FeatureTable
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.storage.checkpoints import load_network, save_network
from conftest import make_network

IMAGES, TRAIN = 6, 3


def make_table(width):
    generator = np.random.default_rng(0)
    parts = [generator.standard_normal((items, 1, width)).astype("float32") for items in (IMAGES, TRAIN)]
    return FeatureTable(parts, IMAGES, TRAIN)


def stored(backbone):
    return StoredBackbone(backbone, make_table(backbone.num_features))


def with_stored(network):
    """The same network over stored features."""
    return HashNetwork(stored(network.backbone), network.hashing_model)


def test_features_come_from_the_table():
    backbone = stored(small_backbone((4,), grid=2, freeze="full"))
    rows = torch.tensor([8, 0, 0])
    features = backbone(rows)
    assert torch.equal(features, backbone.table(rows))
    assert not features.requires_grad


def test_it_states_what_its_backbone_states():
    backbone = small_backbone((4, 8), grid=2, freeze="full")
    double = stored(backbone)
    assert double.num_features == backbone.num_features
    assert double.freeze == backbone.freeze == "full"
    assert double.image_size is backbone.image_size is None
    assert [id(p) for p in double.parameters()] == [id(p) for p in backbone.parameters()]
    assert double.mean.data_ptr() == backbone.mean.data_ptr()
    assert double.std.data_ptr() == backbone.std.data_ptr()
    assert not any(module.training for module in double.train().modules())


def test_state_dicts_have_the_same_keys_in_the_same_order():
    backbone = small_backbone((4, 8), grid=2, freeze="full")
    before, after = backbone.state_dict(), stored(backbone).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], value) for key, value in after.items())


@pytest.mark.parametrize("of_stored", [True, False])
def test_a_state_dict_loads_both_ways(of_stored):
    source, target = (make_network(seed=seed, freeze="full") for seed in (0, 1))
    expected = copy.deepcopy(source.state_dict())
    given, taker = (with_stored(source), target) if of_stored else (source, with_stored(target))
    taker.load_state_dict(given.state_dict(), strict=True)
    assert all(torch.equal(expected[key], value) for key, value in target.state_dict().items())


@pytest.mark.parametrize("of_stored", [True, False])
def test_a_checkpoint_loads_both_ways(tmp_path, of_stored):
    source, target = (make_network(seed=seed, freeze="full") for seed in (0, 1))
    given, taker = (with_stored(source), target) if of_stored else (source, with_stored(target))
    save_network(tmp_path / "network.safetensors", given, {"bits": 16})
    load_network(tmp_path / "network.safetensors", taker, {"bits": 16}, "teacher")
    assert all(torch.equal(source.state_dict()[key], value) for key, value in target.state_dict().items())


def test_the_online_backbone_computes_and_shares_the_weights():
    backbone = small_backbone((4,), grid=2, freeze="full")
    images = torch.rand(2, 3, 16, 16)
    expected = backbone(images)
    online = stored(backbone).online
    assert type(online) is Backbone
    assert torch.equal(online(images), expected)
    assert [id(p) for p in online.parameters()] == [id(p) for p in backbone.parameters()]
    assert backbone.online is backbone


def test_the_online_backbone_follows_what_was_loaded_and_moved():
    double, other = stored(small_backbone((4,), grid=2, freeze="full")), small_backbone((4,), grid=2, freeze="full")
    other.mean.fill_(0.7)
    double.load_state_dict(other.state_dict())
    double.double()
    online = double.online
    assert torch.equal(online.mean, double.mean.float())
    assert next(online.parameters()).dtype == torch.float64
