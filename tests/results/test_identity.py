"""Every option is decided: it counts, it is a seed, or it changes nothing in what is computed."""

import pytest
from omegaconf import OmegaConf

from brcd_lightning.results.identity import (
    NEUTRAL_GROUPS,
    PASSING,
    PLACES,
    SEEDS,
    cell_options,
    lasting_config,
    lasting_options,
    options_of,
    teacher_options,
)
from test_configs import FILES, composed, overrides_of

# Options that decide what a run computes. A key that is missing here and in `identity` fails the test below: decide!
DECISIVE = {
    "anchor_view",
    "bits",
    "collapse_monitor.stop",
    "collapse_monitor.threshold",
    "collapse_monitor.type",
    "compile",
    "data.batch_size",
    "data.type",
    "gather_distributed",
    "map_k",
    "paradigm.monitor",
    "student.check_val_every",
    "student.hashing_weight",
    "student.head",
    "student.init",
    "student.init_scale",
    "student.learning_rate",
    "student.max_epochs",
    "student.patience",
    "student.train_on",
    "feature_layer",
    "teacher.check_val_every",
    "teacher.checkpoint",
    "teacher.head",
    "teacher.learning_rate",
    "teacher.max_epochs",
    "teacher.patience",
    "trainer.limit_train_batches",
    "trainer.max_epochs",
    "trainer.precision",
    "trainer.sync_batchnorm",
    "trainer.type",
    "view_store.dtype",
    "view_store.mode",
    "view_store.positives",
    "view_store.rotations",
    "view_store.type",
    "view_store.views",
}
# Whatever these are made of decides: a new method or data set brings options that count, but for those named above.
DECISIVE_GROUPS = ("dataset", "hashing_model", "kd_method", "optimizer", "transform")
DECISIVE_GROUPS += ("student.backbone", "student.init_options", "teacher.backbone", "teacher.hashing_model")


def config_of(*overrides):
    return OmegaConf.to_container(composed(list(overrides)), resolve=True)


@pytest.mark.parametrize("file", FILES)
def test_every_key_of_every_configuration_is_decided(file):
    for key in options_of(OmegaConf.to_container(composed(overrides_of(file)), resolve=True)):
        named = key in DECISIVE | PASSING | PLACES | SEEDS
        grouped = any(key.startswith(f"{group}.") for group in (*NEUTRAL_GROUPS, *DECISIVE_GROUPS))
        assert named or grouped, f"{key} is new: list it in identity.py, or in DECISIVE here if it counts"


def test_nothing_is_decided_twice_and_nothing_that_is_gone():
    lists = (DECISIVE, PASSING, PLACES, SEEDS)
    assert sum(map(len, lists)) == len(set().union(*lists))
    present = {key for file in FILES for key in options_of(OmegaConf.to_container(composed(overrides_of(file))))}
    present |= {"trainer.strategy"}  # by its name in Lightning instead of ours
    assert set().union(*lists) <= present


@pytest.mark.parametrize(
    "override",
    [
        "+trainer.max_epochs=1",
        "collapse_monitor.stop=true",
        "dataset.seed=1",
        "gather_distributed=false",
        "+trainer.gradient_clip_val=1",
    ],
)
def test_what_decides_makes_another_cell(override):
    """A debugging run of one epoch is no further seed of a full run."""
    assert cell_options(config_of(override)) != cell_options(config_of())


@pytest.mark.parametrize("override", [f"{key}=7" for key in ("seed", "student.seed", "kd_method.seed")])
def test_seeds_are_runs_of_one_cell(override):
    assert cell_options(config_of(override)) == cell_options(config_of())
    assert cell_options(config_of(override), seeds=True) != cell_options(config_of(), seeds=True)


@pytest.mark.parametrize("override", ["trainer=cpu", "output_dir=there", "logger=tensorboard", "resume=auto"])
def test_where_and_how_a_run_works_changes_no_cell(override):
    assert cell_options(config_of(override), seeds=True) == cell_options(config_of(), seeds=True)


def test_a_run_is_continued_on_the_same_devices():
    assert lasting_options(config_of("trainer=cpu")) != lasting_options(config_of())
    assert lasting_options(config_of("data.num_workers=2")) == lasting_options(config_of())


def test_files_hold_the_options_that_outlast_an_interruption():
    config = config_of("data.num_workers=2", "resume=auto", "logger=tensorboard")
    assert options_of(lasting_config(config)) == lasting_options(config)
    assert lasting_config(config) == lasting_config(config_of())


def test_without_gathering_the_number_of_processes_decides():
    two, four = (config_of("trainer=ddp", f"trainer.devices={n}", "gather_distributed=false") for n in (2, 4))
    assert cell_options(two) != cell_options(four)
    assert teacher_options(two) != teacher_options(four)
    two, four = (config_of("trainer=ddp", f"trainer.devices={n}") for n in (2, 4))
    assert cell_options(two) == cell_options(four)


def test_a_teacher_ignores_its_students():
    assert not [key for key in teacher_options(config_of()) if key.startswith(("student.", "kd_method."))]
    assert teacher_options(config_of("collapse_monitor.stop=true")) != teacher_options(config_of())
