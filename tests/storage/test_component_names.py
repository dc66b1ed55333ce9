import pytest

from brcd_lightning.config import CONFIG_DIR
from brcd_lightning.storage.component_names import component_name, named, named_architecture, named_options
from test_configs import FILES, composed, overrides_of


@pytest.mark.parametrize(
    ("key", "target", "name"),
    [
        ("dataset", "brcd_lightning.data.cifar10.cifar10", "cifar10"),
        ("student.backbone", "brcd_lightning.backbones.timm_backbone", "timm"),
        ("teacher.backbone", "brcd_lightning.backbones.torchvision_backbone", "torchvision"),
        ("hashing_model", "brcd_lightning.hashing.cibhash.CIBHash", "cibhash"),
        ("kd_method", "brcd_lightning.distillation.none.NoDistillation", "none"),
        ("optimizer", "torch.optim.Adam", "Adam"),
        ("trainer", "lightning.pytorch.Trainer", "Trainer"),
        ("kd_method", "brcd", "brcd"),
    ],
)
def test_a_name_says_what_the_import_path_says(key, target, name):
    assert component_name(key, target) == name


def test_no_import_path_is_left_at_any_depth():
    config = {"trainer": {"_target_": "a.B", "strategy": {"_target_": "c.d", "timeout_s": 3}}, "bits": 32}
    found = named(config)
    assert found == {"trainer": {"type": "B", "strategy": {"type": "d", "timeout_s": 3}}, "bits": 32}
    assert named(found) == found
    assert named_options({"trainer.strategy._target_": "c.d", "bits": 32}) == {"trainer.strategy.type": "d", "bits": 32}


def test_a_description_of_the_first_release_becomes_one_of_this():
    old = {
        "bits": 16,
        "backbone": {"_target_": "brcd_lightning.backbones.small_backbone", "grid": 4},
        "hashing_model": "brcd_lightning.hashing.cibhash.CIBHash",
        "about": {"method": {"_target_": "brcd_lightning.distillation.brcd.BRCD", "alpha": 0.8}, "seed": 0},
    }
    new = {
        "bits": 16,
        "backbone": {"type": "small", "grid": 4},
        "hashing_model": "cibhash",
        "about": {"method": {"type": "brcd", "alpha": 0.8}, "seed": 0},
    }
    assert named_architecture(old) == new == named_architecture(new)


@pytest.mark.parametrize("group", ["dataset", "hashing_model", "kd_method"])
def test_options_of_a_group_have_the_name_of_a_component_in_it(group):
    """Variants, such as the ablations of a method, are the same component with other options."""
    options = {path.stem for path in (CONFIG_DIR / group).glob("*.yaml")}
    for option in options:
        assert named(_plain(composed([f"{group}={option}"])))[group]["type"] in options


@pytest.mark.parametrize("file", FILES)
def test_no_option_is_called_as_the_name_is(file):
    def keys(node):
        for key, value in node.items():
            yield key
            if isinstance(value, dict):
                yield from keys(value)

    assert "type" not in list(keys(_plain(composed(overrides_of(file)))))


def _plain(cfg):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
