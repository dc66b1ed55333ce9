"""Every option of conf/ refuses what it cannot be: in one line, by its full key, before data is loaded."""

from collections.abc import Iterator, Mapping
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from brcd_lightning import config
from brcd_lightning.config import CONFIG_DIR, check, check_parts, load_options
from brcd_lightning.data.fake import fake
from brcd_lightning.errors import InputError
from brcd_lightning.experiment import run
from brcd_lightning.experiment.sweeps.local_launcher import ProcessLauncher
from brcd_lightning.experiment.sweeps.optuna_sweeper import StudySweeper
from brcd_lightning.experiment.sweeps.slurm_launcher import SlurmLauncher
from test_configs import FILES, composed, overrides_of

HUGE = 10**15
PLACES = {
    "dataset": ("dataset.", "transform.", "map_k"),
    "backbone": ("student.backbone.",),
    **{group: (f"{group}.",) for group in ("hashing_model", "kd_method", "optimizer", "trainer", "logger")},
}
"""Keys that the files of a group give."""
GROUPED = [file for file in FILES if file.rpartition("/")[0] in PLACES]
NULL_MAKES_SENSE = {
    *("dataset.root", "dataset.name", "dataset.images"),  # given as null, and refused with what they are for
    *("trainer.precision", "trainer.deterministic", "trainer.log_every_n_steps", "trainer.check_val_every_n_epoch"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.max_epochs"),
    *("trainer.limit_train_batches", "optimizer.fused"),
    *("teacher.backbone.weights", "student.backbone.weights"),
    *("logger.csv.name", "logger.csv.version", "logger.tensorboard.name", "logger.tensorboard.version"),
}
RIGHT = {
    "trainer.devices": [[1], 3],
    "trainer.deterministic": [True],
    "logger.csv.version": [3],
    "logger.tensorboard.version": [3],
    "student.init_options": [{"a": 1}],
    "params": [{"a": 1}],
}
"""Values of another type than that in conf/ that make sense."""


def wrong_values(key: str, value: object) -> list[object]:
    """What an option cannot be that has such a value in conf/."""
    return [wrong for wrong in _unlike(key, value) if repr(wrong) not in map(repr, RIGHT.get(key, []))]


def _unlike(key: str, value: object) -> Iterator[object]:
    if value is not None and key not in NULL_MAKES_SENSE:
        yield None
    match value:
        case bool():
            yield from ("maybe", "", [True], 2)
        case int() | float():
            yield from ("maybe", "", [1], True, -2, HUGE, {"a": 1})
        case str():
            yield from ("", ["a"], True, {"a": "b"}, 3)
        case list():
            yield from ("maybe", 3, True, [], [-1], [True], [HUGE], [["a"]], {"a": 1})
        case dict():
            yield from ("maybe", 3, [1])
        case None:
            yield from ("", True, {"a": 1}, [["a"]], -1)


def flat(options: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Full keys and values of all options but those of Hydra itself."""
    for name, value in options.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{key}.")
        elif name != "_target_":
            yield key, value


def refusal(cfg: DictConfig, key: str, value: object) -> str | None:
    """What is said of a configuration with this value; None if it would be taken."""
    before = OmegaConf.select(cfg, key)
    OmegaConf.update(cfg, key, value, merge=False)
    try:
        if not key.startswith("latency."):  # which has a section of its own
            check(cfg)
        check_parts(cfg, key.partition(".")[0])
    except InputError as error:
        return str(error)
    finally:
        OmegaConf.update(cfg, key, before, merge=False)
    return None


def silent(cfg: DictConfig, *places: str) -> list[str]:
    """Wrong values of options below `places` that nobody refuses by their full key."""
    found = []
    for key, value in flat(OmegaConf.to_container(cfg)):
        for wrong in wrong_values(key, value) if key.startswith(places) else ():
            told = refusal(cfg, key, wrong)
            if told is None or not told.startswith(f"{key} ") or "must be" not in told or "\n" in told:
                found.append(f"{key}={wrong!r}: {told}")
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """The primary configuration is read once."""
    monkeypatch.setattr(config, "load_options", cache(load_options))


def resolved(cfg: DictConfig) -> DictConfig:
    """A configuration whose options do not refer to each other, so that each is wrong alone."""
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def test_the_options_of_every_run():
    cfg = resolved(composed([]))
    assert len(list(flat(OmegaConf.to_container(cfg)))) > 70
    assert silent(cfg, "") == []


@pytest.mark.parametrize("file", GROUPED)
def test_the_options_of_each_group(file):
    assert silent(resolved(composed(overrides_of(file))), *PLACES[file.rpartition("/")[0]]) == []


def test_the_options_of_a_measurement():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = resolved(compose("latency"))
    cfg.latency.file = "latency.json"
    assert silent(cfg, "latency") == []


@pytest.mark.parametrize(
    ("file", "plugin"),
    [
        ("hydra/launcher/local", ProcessLauncher),
        ("hydra/launcher/slurm", SlurmLauncher),
        ("hydra/sweeper/optuna", StudySweeper),
    ],
)
def test_the_options_of_launchers_and_the_sweeper(file, plugin):
    given = OmegaConf.to_container(load_options(CONFIG_DIR / f"{file}.yaml"), resolve=False)
    given = {name: value for name, value in given.items() if name != "_target_"}
    right = {"tasks_per_node": 1, "nodes": 1} if plugin is SlurmLauncher else {}
    found = []
    for name, value in {**given, **right}.items():
        for wrong in wrong_values(name, value):
            with pytest.raises(InputError) as told:
                plugin(**{**given, **right, name: wrong})
            text = str(told.value)
            if not text.startswith(f"{file.rpartition('/')[0].replace('/', '.')}.{name} ") or "must be" not in text:
                found.append(f"{name}={wrong!r}: {text}")
    assert found == []


def test_nothing_is_loaded_for_a_wrong_option(monkeypatch, tmp_path):
    for name in ("Trainers", "build_context"):
        monkeypatch.setattr(run, name, lambda *_: pytest.fail("something was built"))
    monkeypatch.setattr(run, "_run_dir", lambda: tmp_path)
    monkeypatch.setattr(run, "end_when_asked", lambda _: None)
    with pytest.raises(
        InputError, match=r"^data.num_workers must be an integer of at least 0 and at most 4096, got 10"
    ):
        run.run(composed(["data.num_workers=1000000000000"]))
    with pytest.raises(InputError, match=r"^teacher.backbone.widths must be a list of 1 to 16, each item"):
        run.run(composed(["teacher.backbone.widths=8"]))


def test_a_value_that_is_to_be_given_is_named():
    with pytest.raises(InputError, match=r"^teacher.backbone.name is not set; give it a value"):
        check(composed(["backbone@teacher.backbone=timm"]))
    with pytest.raises(InputError, match="Interpolation key 'nope' not found"):
        check(composed(["bits=${nope}"]))


def test_more_made_up_pixels_than_fit_are_refused():
    with pytest.raises(InputError, match=r"make 2013.3 billion pixel values, more than 0.5; lower them"):
        fake(size=4096, num_classes=400, images_per_class=100)


@pytest.mark.parametrize("target", ["os.system", "[a]", "3"])
def test_targets_outside_of_the_allow_list_are_not_even_looked_up(target):
    with pytest.raises(InputError, match=r"^data: _target_ .* is not allowed"):
        check_parts(composed([f"data._target_={target}"]))


def test_options_of_hydra_itself_are_left_to_it():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        check_parts(compose("train", return_hydra_config=True))  # some of them have no value outside of a job


@pytest.mark.parametrize(
    "override", ["trainer.precision=32", "bits=4096", "+trainer.devices=[0,1]", "+trainer.limit_train_batches=0.5"]
)
def test_usual_values_are_taken(override):
    check(composed([override]))
