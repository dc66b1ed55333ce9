"""The configuration: where it lies, what is wrong with it, and the only call of Hydra's instantiate."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brcd_lightning.errors import InputError, did_you_mean, require_choice
from brcd_lightning.options import (
    AnchorView,
    Head,
    NonNegative,
    NonNegativeInt,
    OptionError,
    Positive,
    PositiveInt,
    Seed,
    require_option,
)
from brcd_lightning.storage.renamed_options import current_name

_PACKAGED = Path(__file__).parent / "conf"  # in an installed wheel
_SOURCE = Path(__file__).parents[2] / "conf"  # in a checkout
CONFIG_DIR = _PACKAGED if _PACKAGED.is_dir() else _SOURCE
CONFIG_NAME = "train"

RANDOM = "random"
NETWORKS = ("teacher", "student")
GROUPS = ("dataset", "transform", "hashing_model", "kd_method", "paradigm", "optimizer", "trainer", "logger")
SCHEDULE = ("max_epochs", "learning_rate", "check_val_every", "patience")
_OPTIONS: dict[str, Any] = {
    "stage": Literal["all", "teacher", "student", "test"],
    "resume": Literal["never", "auto"],
    "bits": PositiveInt,
    "map_k": PositiveInt,
    "seed": Seed,
    "trial": NonNegativeInt | None,
    "anchor_view": AnchorView,
    "checkpoint_every_s": NonNegative,
    "dry_run": bool,
    "compile": bool,
    "gather_distributed": bool,
    "float_queries": bool,
    "feature_baselines": bool,
    "paradigm.monitor": Literal["val/map_sshp", "val/map_ashp"],
    "student.train_on": Literal["train", "database"],
    "student.init_scale": Positive,
    "student.hashing_weight": NonNegative,
} | {
    f"{role}.{key}": hint
    for role in NETWORKS
    for key, hint in {
        "seed": Seed,
        "max_epochs": PositiveInt,
        "check_val_every": PositiveInt,
        "patience": PositiveInt,
        "learning_rate": Positive,
        "head": Head,
    }.items()
}
"""Options that no constructor sees early."""
ALLOWED_TARGETS = ("brcd_lightning.", "lightning.pytorch.", "torchvision.transforms.", "torch.optim.")


def build(node: DictConfig, **arguments: object) -> Any:
    """Instantiates the `_target_` of a config node; constructors see plain Python values.

    Raises:
        InputError: for a target outside the allow-list, an unknown or missing option, or whatever the constructor
            refuses; of an option by its full key.
    """
    key = node._get_full_key(None) or "config"
    for target in _targets(OmegaConf.to_container(node, resolve=True)):
        if not target.startswith(ALLOWED_TARGETS):
            raise InputError(
                f"{key}: _target_ {target!r} is not allowed; it must start with {', '.join(ALLOWED_TARGETS)}."
            )
    # Partial, so that arguments which no config can hold (networks, splits) never pass through OmegaConf.
    try:
        target = instantiate(node, _convert_="all", _partial_=True)
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from error
        if error.__cause__ is not None and isinstance(error.__cause__, ImportError | AttributeError):
            raise InputError(f"{key}: {str(error).splitlines()[0]}.") from error
        raise
    signature = inspect.signature(target.func)
    try:
        signature.bind(*target.args, **{**target.keywords, **arguments})
    except TypeError as error:
        options = ", ".join(signature.parameters)
        raise InputError(f"{key}: {error} for {target.func.__name__}; its options are {options}.") from error
    try:
        return target(**arguments)
    except OptionError as error:
        raise error.at(key) from None


def _targets(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "_target_" in value:
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _targets(item)


def load_options(path: Path) -> DictConfig:
    """Reads a YAML file of options by name.

    Raises:
        InputError: if it holds something else.
    """
    options = OmegaConf.load(path)
    if not isinstance(options, DictConfig):
        raise InputError(f"{path} must hold options by name, such as 'bits: 32'.")
    return options


def component_options(group: str) -> list[str]:
    """Names of the options of a group."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def check(cfg: DictConfig) -> None:
    """Refuses wrong values that no constructor would see early, before data or a device is touched.

    Raises:
        InputError: naming the first wrong key.
    """
    _check_keys(cfg)
    for key, hint in _OPTIONS.items():
        require_option(key, OmegaConf.select(cfg, key), hint)
    require_choice("student.init", cfg.student.init, (RANDOM, *component_options("kd_method")))
    if not isinstance(cfg.student.init_options, DictConfig):
        raise InputError(f"student.init_options must be options by name, got {cfg.student.init_options!r}.")


def _check_keys(cfg: DictConfig) -> None:
    """Refuses keys added with ``+`` to the plain nodes; the others have constructors that refuse theirs."""
    primary = load_options(CONFIG_DIR / f"{CONFIG_NAME}.yaml")
    for key in (*NETWORKS, *GROUPS, *(f"{role}.backbone" for role in NETWORKS)):
        if not isinstance(OmegaConf.select(cfg, key), DictConfig):
            raise InputError(f"{key} must be a group of options, got {OmegaConf.select(cfg, key)!r}.")
    own = cfg.teacher.get("hashing_model")
    if own is not None and not isinstance(own, DictConfig):
        raise InputError(f"teacher.hashing_model is chosen by hashing_model@teacher.hashing_model=NAME, got {own!r}.")
    known = {str(key) for key in primary if key not in ("defaults", "hydra")} | set(GROUPS)
    for role in NETWORKS:
        known |= {f"{role}.{key}" for key in (*primary[role], *SCHEDULE, "backbone")}
    known.add("teacher.hashing_model")
    present = [str(key) for key in cfg] + [f"{role}.{key}" for role in NETWORKS for key in cfg[role]]
    for key in present:
        if key not in known:
            renamed = current_name(key)
            hint = f" It is called {renamed!r} now." if renamed in known else did_you_mean(key, known)
            raise InputError(f"unknown key {key!r}.{hint}")


def hashing_model_of(config: Mapping[Any, Any], role: str) -> Any:
    """The node of the hashing model of the ``teacher`` or ``student``: the teacher may have one of its own."""
    return config[role].get("hashing_model") or config["hashing_model"]


def grid_coordinates(cfg: DictConfig) -> dict[str, str]:
    """The coordinates of a run in the grid, by the names of the chosen options."""
    choices = HydraConfig.get().runtime.choices

    def backbone(role: str) -> str:
        return cfg[role].backbone.get("name") or choices[f"backbone@{role}.backbone"]

    groups = ("dataset", "hashing_model", "kd_method", "profile", "paradigm")
    coordinates = {group: choices[group] for group in groups} | {role: backbone(role) for role in NETWORKS}
    models = choices.get("hashing_model@teacher.hashing_model"), choices["hashing_model"]
    return coordinates | {"hashing_model": ">".join(dict.fromkeys(filter(None, models)))}  # or teacher>student


def compose_config(overrides: Sequence[str], config_name: str = CONFIG_NAME) -> DictConfig:
    """Composes and checks a configuration, for commands without Hydra's own main.

    Args:
        overrides: Hydra overrides from the command line.
        config_name: of the primary configuration. A section of that name is left to the command to check.

    Raises:
        InputError: if the configuration does not compose, or holds a wrong value.
    """
    from hydra import compose, initialize_config_dir  # noqa: PLC0415 (not on the way of `train`)

    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            cfg = compose(config_name, overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)  # for `grid_coordinates`
        own = ("hydra", config_name)
        check(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in own]))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, overrides, config_name)) from error
    return cfg


def explain(error: Exception, arguments: Iterable[str], config_name: str = CONFIG_NAME) -> str:
    """One line for a configuration that does not compose: the key path and the closest known one."""
    if isinstance(error.__cause__, InputError):  # of a launcher or a sweeper, which Hydra instantiates
        return str(error.__cause__)
    text = str(error)
    arguments = list(arguments)
    if text.startswith("Config group override must be"):
        chosen = next((argument for argument in arguments if argument.endswith("=null")), "a group")
        return f"{chosen} chooses nothing; name an option of the group (kd_method and logger have one called none)."
    missing = re.search(r"Could not override '([^']+)'", text)
    option = re.search(r"Could not find '([^']+)'", text)
    if option:
        group, _, name = option.group(1).rpartition("/")
        options = component_options(group)
        if group and options:
            return f"{group} has no option {name!r}.{did_you_mean(name, options)} Options: {', '.join(options)}."
    if missing:
        key = missing.group(1)
        return f"unknown key {key!r}.{_closest_key(key, arguments, config_name)}"
    return " ".join(text.split())


def _closest_key(key: str, arguments: Iterable[str], config_name: str) -> str:
    from hydra import compose, initialize_config_dir  # noqa: PLC0415 (only on the way to an error message)
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    groups = [argument for argument in arguments if "=" in argument and key not in argument and "hydra" not in argument]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            cfg = compose(config_name, overrides=groups)
        except (HydraException, OmegaConfBaseException):
            cfg = compose(config_name)
    keys = [key for key in _flat_keys(OmegaConf.to_container(cfg, resolve=False), "") if not key.endswith("_target_")]
    namesakes = [known for known in keys if known.rpartition(".")[2] == key]
    return f" Did you mean '{namesakes[0]}'?" if namesakes else did_you_mean(key, keys)


def _flat_keys(value: object, prefix: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield f"{prefix}{key}"
            yield from _flat_keys(child, f"{prefix}{key}.")
