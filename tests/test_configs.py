"""Every YAML below conf/ composes, and everything it describes instantiates."""

import pickle
from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Trainer
from omegaconf import OmegaConf, open_dict

from brcd_lightning.config import CONFIG_DIR, build, check, grid_coordinates
from brcd_lightning.data.transforms import ImageTransforms
from brcd_lightning.distillation.base import KDMethod
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.training.loggers import LogContext
from data import stand_ins

FILES = sorted(path.relative_to(CONFIG_DIR).with_suffix("").as_posix() for path in CONFIG_DIR.rglob("*.yaml"))
ADDED = ("experiment", "rung", "sweep")  # chosen with +group=option


def overrides_of(file):
    group, _, option = file.rpartition("/")
    if not group:
        return []
    if group == "backbone":
        name = ["teacher.backbone.name=resnet10t", "student.backbone.name=resnet10t"] if option == "timm" else []
        return [f"backbone@{role}.backbone={option}" for role in ("teacher", "student")] + name
    if option.startswith("with_"):
        return [f"kd_method={option.removeprefix('with_')}", "profile=release"]
    if group == "mechanics/release":
        return [f"kd_method={option}", "profile=release"]
    return [f"{'+' if group in ADDED else ''}{group}={option}"]


def composed(overrides):
    """The configuration of a command; Hydra knows it as that of the present run."""
    cfg, HydraConfig.instance().cfg = _composed(tuple(overrides))
    return pickle.loads(cfg)  # noqa: S301  # what the next function has written


@cache  # several tests ask for all files, and Hydra takes a quarter of a second for each
def _composed(overrides):
    """The configuration, pickled because it is copied ten times faster from there, and Hydra's own part."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return pickle.dumps(cfg), HydraConfig.instance().cfg


@pytest.fixture(params=FILES)
def cfg(request):
    return composed(overrides_of(request.param))


def test_every_file_is_seen():
    assert len(FILES) > 35
    assert {"train", "experiment/cifar_vitb_effb0", "sweep/alpha_delta", "kd_method/brcd_wo_np"} <= set(FILES)


def test_composes_checks_and_instantiates(cfg, tmp_path):
    check(cfg)
    assert isinstance(build(cfg.kd_method), KDMethod)
    assert isinstance(build(cfg.transform), ImageTransforms)
    for role in ("teacher", "student"):
        with torch.device("meta"):  # shapes only: a ViT-L takes no memory and no time
            weights = {"weights": None} if "weights" in cfg[role].backbone else {}
            backbone = build(cfg[role].backbone, **weights)
            model = build(cfg.hashing_model, in_features=backbone.num_features, bits=cfg.bits, head=cfg[role].head)
            network = HashNetwork(backbone, model)
            size = backbone.image_size or cfg.transform.size
            assert network([torch.zeros(2, 3, size, size)])[0].code.shape == (2, cfg.bits)
    one = grid_coordinates(cfg)
    assert cfg.paradigm.monitor == f"val/map_{one['paradigm']}"
    assert set(one) == {"dataset", "hashing_model", "kd_method", "profile", "paradigm", "teacher", "student"}


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.startswith("mechanics/release/") and "with_" not in file]
)
def test_the_release_profile_changes_only_what_its_file_says(file):
    paper, release = composed(overrides_of(file)[:1]), composed(overrides_of(file))
    assert (paper.anchor_view, release.anchor_view) == ("clean", "aug")
    folder, _, name = file.rpartition("/")
    name = "brcd" if name.startswith("brcd_") else name  # the ablations are switches of the same loss
    changes = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / folder / f"{name}.yaml"))
    assert dict(release.kd_method) == {**paper.kd_method, **changes} != dict(paper.kd_method)
    assert paper.kd_method == composed([*overrides_of(file)[:1], "profile=paper"]).kd_method


def test_the_release_profile_has_the_releases_heads_and_taps():
    experiment = "+experiment=cifar_vitb_effb0"
    paper, release, without = (
        composed([experiment, *extra]) for extra in ([], ["profile=release"], ["profile=release", "kd_method=none"])
    )
    assert (paper.student.head, release.student.head, without.student.head) == ("mlp", "mlp", "linear")
    assert (paper.student.backbone.feature_layer, release.student.backbone.feature_layer) == ("penultimate", "logits")
    assert release.teacher.backbone.feature_layer == "penultimate"
    assert composed([experiment, "kd_method=none"]).student.head == "mlp"  # the same with and without distillation


def test_the_originals_train_as_their_authors_do():
    cfg = composed(["hashing_model=greedyhash_original"])
    assert cfg.optimizer._target_ == "torch.optim.SGD"
    assert (cfg.student.learning_rate, cfg.data.batch_size) == (1e-4, 32)
    assert composed(["hashing_model=tbh"]).teacher.head == "mlp"
    assert composed(["hashing_model=tbh", "teacher.head=linear"]).teacher.head == "linear"


def test_what_the_release_does_not_change_stays():
    assert composed(["kd_method=kl", "profile=release"]).kd_method == composed(["kd_method=kl"]).kd_method
    overridden = composed(["kd_method=sp", "profile=release", "kd_method.variant=batch"])
    assert overridden.kd_method.variant == "batch"


@pytest.mark.parametrize("name", stand_ins.DATA_SETS)
def test_data_sets_build_from_local_files(name, tmp_path):
    given = stand_ins.ALL[name](tmp_path) if name in stand_ins.ALL else {}
    overrides = [f"dataset={name}", *(f"dataset.{key}={value}" for key, value in given.items())]
    cfg = composed([*overrides, "data.batch_size=4"])
    data = build(cfg.data, splits=build(cfg.dataset), transforms=build(cfg.transform), anchor_view="clean", seed=0)
    batch = next(iter(data.train_dataloader()))
    assert batch.anchor.shape == (4, 3, cfg.transform.size, cfg.transform.size)


@pytest.mark.parametrize("option", [file for file in FILES if file.startswith("trainer/")])
def test_trainers_build_on_this_machine(option):
    cfg = composed(overrides_of(option))
    if cfg.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        cfg.trainer.accelerator, cfg.trainer.precision, cfg.trainer.devices = "cpu", "32-true", 1
    assert isinstance(build(cfg.trainer, logger=False), Trainer)


@pytest.mark.parametrize("option", [file for file in FILES if file.startswith("logger/")])
def test_loggers_build(option, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    cfg = composed(overrides_of(option))
    context = LogContext(tmp_path, "student", grid_coordinates(cfg), 32, 0, {})
    try:
        made = [build(node, context=context) for node in cfg.logger.values()]
    except InputError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            pytest.skip(str(error))  # a logger of a library that is not installed
        raise
    assert len(made) == len(cfg.logger)
    from brcd_lightning.training.loggers import close_loggers

    close_loggers()


def test_experiments_say_how_to_launch_them():
    for file in FILES:
        if file.startswith(("experiment/", "sweep/")):
            text = (CONFIG_DIR / f"{file}.yaml").read_text()
            assert text.startswith("# @package _global_")
            group, _, option = file.partition("/")
            assert f"{group}={option}" in text or f",{option}]" in text, file  # alone, or on top of another one
