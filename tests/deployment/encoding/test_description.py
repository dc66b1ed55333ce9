import dataclasses

import pytest

from brcd_lightning.config import CONFIG_DIR, load_options
from brcd_lightning.deployment.encoding.description import BACKBONES, HASHING_MODELS, EncoderDescription
from brcd_lightning.errors import InputError
from brcd_lightning.storage.component_names import component_name
from small_encoder import make_encoder


def test_json_round_trip():
    description = make_encoder().description
    assert EncoderDescription.of_json(description.as_json(), "f") == description


def names(group, key):
    nodes = [load_options(path) for path in (CONFIG_DIR / group).glob("*.yaml")]
    nodes = [node.get(group, node) for node in nodes]  # some bring options of other groups along
    return {component_name(key, node["_target_"]) for node in nodes if "_target_" in node}


def test_every_component_of_the_configuration_is_known():
    assert names("hashing_model", "hashing_model") == set(HASHING_MODELS)
    assert names("backbone", "student.backbone") == set(BACKBONES)


@pytest.mark.parametrize("name", HASHING_MODELS)
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_every_hashing_model_can_be_built(name, head):
    options = {"type": name, "head": head, "hidden_features": 8}
    description = dataclasses.replace(make_encoder(bits=8).description, hashing_model=options)
    network = description.build_network()
    assert network.bits == 8
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": {"type": "os.system"}}, "backbone must be one of timm, torchvision"),
        ({"backbone": "small"}, "backbone must be one of"),
        ({"hashing_model": {"type": "../x"}}, "hashing_model must be one of"),
        ({"transform": {"type": "none"}}, "transform must be one of natural_images, digit_images, got 'none'"),
        ({"bits": 0}, "bits must be a positive integer"),
        ({"role": "pupil"}, "role must be one of student, teacher"),
    ],
)
def test_foreign_parts_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(make_encoder().description, **change)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "does not describe a hash encoder"),
        ({"format": "other"}, "does not describe a hash encoder"),
        ({"format": "brcd_lightning.HashEncoder", "version": 99}, "is of version 99, this release reads 1"),
        ({"format": "brcd_lightning.HashEncoder", "version": 1, "bits": 8}, "missing"),
    ],
)
def test_foreign_json_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        EncoderDescription.of_json(content, "config.json")


def test_options_that_a_part_does_not_take_are_named():
    description = dataclasses.replace(make_encoder().description, transform={"type": "natural_images", "sise": 3})
    with pytest.raises(InputError, match="natural_images of an encoder: .*sise"):
        description.build_transforms()
