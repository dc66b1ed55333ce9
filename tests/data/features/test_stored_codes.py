"""Codes by row are those that the network itself gives of its stored features."""

import numpy as np
import pytest
import torch

from brcd_lightning.data.features import stored_codes
from brcd_lightning.data.features.stored_backbone import StoredBackbone
from brcd_lightning.data.features.stored_codes import StoredCodes
from brcd_lightning.data.features.table import FeatureTable
from brcd_lightning.distillation.none import NoDistillation
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions
from conftest import make_network

IMAGES, TRAIN = 40, 5
CPU = torch.device("cpu")


def make_stored(network):
    """The network over random stored features."""
    generator = np.random.default_rng(0)
    width = network.backbone.num_features
    parts = [generator.standard_normal((items, 2 - (items == IMAGES), width), "float32") for items in (IMAGES, TRAIN)]
    return HashNetwork(StoredBackbone(network.backbone, FeatureTable(parts, IMAGES, TRAIN)), network.hashing_model)


def test_every_row_has_the_code_of_its_features(monkeypatch):
    monkeypatch.setattr(stored_codes, "_ROWS_AT_ONCE", 7)
    network = make_stored(make_network(freeze="full"))
    codes = StoredCodes.of(network, CPU)
    rows = torch.randint(0, IMAGES + 2 * TRAIN, (100,))
    assert codes.codes.shape == (IMAGES + 2 * TRAIN, 16)
    assert codes.encode(rows).dtype == torch.int8
    assert torch.equal(codes.encode(rows), network.encode(rows))
    for found, expected in zip(codes.encode_soft(rows), network.encode_soft(rows), strict=True):
        assert torch.equal(found, expected)


def test_codes_are_not_computed_again():
    network = make_stored(make_network(freeze="full"))
    codes, rows = StoredCodes.of(network, CPU), torch.arange(10)
    before = network.encode(rows)
    for parameter in network.hashing_model.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(codes.encode(rows), before)


def test_weights_that_are_not_finite_give_no_stored_codes():
    network = make_stored(make_network(freeze="full"))
    network.hashing_model.head.weight.data[0, 0] = float("inf")
    with pytest.raises(InputError, match="logits must be finite to become codes"):
        StoredCodes.of(network, CPU)


def test_a_network_that_computes_its_features_has_no_stored_codes():
    assert StoredCodes.of(make_network(freeze="full"), CPU) is None


def test_a_student_looks_the_codes_of_its_teacher_up_from_fit_start_on():
    online, student = make_network(freeze="full"), make_network(seed=1, freeze="full")
    for teacher, kind in ((online, HashNetwork), (make_stored(online), StoredCodes)):
        module = DistillationModule(student, teacher, NoDistillation(), TrainingOptions(1e-3, 10), {})
        assert module.encoders()["teacher"] is teacher
        module.on_fit_start()
        assert isinstance(module.encoders()["teacher"], kind)
        assert module.teacher is teacher
