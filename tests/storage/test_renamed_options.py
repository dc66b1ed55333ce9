import pytest

from brcd_lightning.results.identity import options_of
from brcd_lightning.storage.component_names import named, named_architecture
from brcd_lightning.storage.renamed_options import RENAMED, current_name, current_overrides
from conftest import TINY, run_command
from test_configs import FILES, composed, overrides_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("kd_method.restarts=5", "kd_method.n_init=5"),
        ("+kd_method.restarts=5", "+kd_method.n_init=5"),
        ("~collapse", "~collapse_monitor"),
        ("collapse.stop=true", "collapse_monitor.stop=true"),
        ("teacher.backbone.tap=logits", "teacher.backbone.feature_layer=logits"),
        ("gather=false", "gather_distributed=false"),
        ("hydra/sweeper=search", "hydra/sweeper=optuna"),
        ("tap=logits", "feature_layer=logits"),
    ],
)
def test_a_former_name_works_and_names_the_new_one(given, expected, capsys):
    assert current_overrides([given]) == [expected]
    assert capsys.readouterr().err == f"warning: {given} is deprecated and will be removed; use: {expected}\n"


def test_other_arguments_are_left_alone(capsys):
    arguments = ["-m", "--help", "kd_method=brcd", "gather_distributed=true", "dataset.root=/tap=x", "'x=[1,2]'"]
    assert current_overrides(arguments) == arguments
    assert capsys.readouterr().err == ""


def test_files_are_read_by_the_names_of_today():
    old = {"tap": "logits", "collapse": {"stop": False}, "kd_method": {"restarts": 30}}
    new = {"feature_layer": "logits", "collapse_monitor": {"stop": False}, "kd_method": {"n_init": 30}}
    assert named(old) == new == named(new)
    backbone = {"backbone": {"_target_": "brcd_lightning.backbones.timm_backbone", "tap": "logits"}}
    assert named_architecture(backbone) == {"backbone": {"type": "timm", "feature_layer": "logits"}}


@pytest.mark.parametrize("file", FILES)
def test_no_configuration_has_a_former_name(file):
    from omegaconf import OmegaConf

    for key in options_of(OmegaConf.to_container(composed(overrides_of(file)))):
        assert current_name(key) == key


def test_renaming_ends():
    assert not set(RENAMED.values()) & set(RENAMED)


def test_the_command_takes_former_names(tmp_path):
    done = run_command(*TINY, "kd_method.restarts=3", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "use: kd_method.n_init=3" in done.stderr
