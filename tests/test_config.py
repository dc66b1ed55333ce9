import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from brcd_lightning.config import build, check, explain, grid_coordinates
from brcd_lightning.errors import InputError
from test_configs import composed


def test_constructors_see_plain_values_and_extra_arguments():
    node = OmegaConf.create({"_target_": "brcd_lightning.hashing.cibhash.CIBHash", "tau": 0.5})
    assert build(node, in_features=3, bits=4).tau == 0.5


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "torch.load", "brcd_lightning_evil.x", "numpy.load", "builtins.eval"),
        *("brcd_lightning.storage.checkpoints.torch.load", "brcd_lightning.storage.atomic.write_text"),
        *("brcd_lightning.backbones.torch.hub.load", "brcd_lightning.data.manifest.write_text"),
        *(
            "lightning.pytorch.LightningModule.load_from_checkpoint",
            "lightning.pytorch.utilities.rank_zero.rank_zero_info",
        ),
        *("torch.optim.Adam.load_state_dict", "brcd_lightning.hashing.cibhash.CIBHash.load_state_dict", 5, None),
    ],
)
def test_targets_that_are_no_parts_never_run(target):
    node = OmegaConf.create({"_target_": "brcd_lightning.hashing.cibhash.CIBHash", "tau": {"_target_": target}})
    with pytest.raises(InputError, match="is not allowed"):
        build(node, in_features=3, bits=4)


@pytest.mark.parametrize("name", ["_partial_", "_convert_", "_recursive_", "_args_"])
def test_options_of_hydra_itself_are_refused(name):
    node = OmegaConf.create({"_target_": "brcd_lightning.hashing.cibhash.CIBHash", name: True})
    with pytest.raises(InputError, match=f"unknown option '{name}'"):
        build(node, in_features=3, bits=4)


def test_unknown_options_name_the_known_ones():
    cfg = composed(["+kd_method.alhpa=0.3"])
    with pytest.raises(InputError, match="kd_method: .*'alhpa'.* its options are num_clusters, alpha"):
        build(cfg.kd_method)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bits=0", "bits must be a positive integer, got 0"),
        ("bits=abc", "bits must be a positive integer, got 'abc'"),
        ("bits=16.5", "bits must be a positive integer, got 16.5"),
        ("map_k=0", "map_k must be a positive integer, got 0"),
        ("stage=tset", "stage must be one of all, teacher, student, test, got 'tset'. Did you mean 'test'?"),
        ("seed=-1", "seed must be an integer of at least 0, got -1"),
        ("teacher.seed=abc", "teacher.seed must be an integer of at least 0, got 'abc'"),
        ("dry_run=maybe", "dry_run must be true or false, got 'maybe'"),
        ("paradigm.monitor=foo", "paradigm.monitor must be one of val/map_sshp, val/map_ashp"),
        ("teacher=foo", "teacher must be a group of options, got 'foo'"),
        ("teacher.backbone=null", "teacher.backbone must be a group of options, got None"),
        ("student.head=foo", "student.head must be one of linear, mlp, got 'foo'"),
        ("student.max_epochs=0", "student.max_epochs must be a positive integer, got 0"),
        ("trial=-1", "trial must be an integer of at least 0 or null, got -1"),
        ("anchor_view=raw", "anchor_view must be one of clean, aug, got 'raw'"),
        ("+bitz=3", "unknown key 'bitz'. Did you mean 'bits'?"),
        ("+student.lerning_rate=3", "unknown key 'student.lerning_rate'. Did you mean 'student.learning_rate'?"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_built(override, message):
    with pytest.raises(InputError) as error:
        check(composed([override]))
    assert message in str(error.value)


def test_a_folder_of_a_user_is_a_coordinate_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options, name in (
        (["dataset=images", "dataset.root=/home/someone/cats"], "cats"),
        (["dataset=image_folder", "dataset.root=."], tmp_path.name),
        (["dataset=image_folder"], "image_folder"),
        (["dataset=cifar10", "dataset.root=/home/someone/cats"], "cifar10"),
    ):
        assert grid_coordinates(composed(options))["dataset"] == name


def test_what_a_launcher_refuses_is_said_in_its_own_words():
    error = InstantiationException("Error in call to target 'x'")
    error.__cause__ = InputError("hydra.launcher.jobs must be a positive integer, got 0.")
    assert explain(error, []) == "hydra.launcher.jobs must be a positive integer, got 0."
