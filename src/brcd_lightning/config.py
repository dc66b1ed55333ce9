"""The configuration: its location, its validation, and the only call of Hydra's ``instantiate``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brcd_lightning.data.names import dataset_name
from brcd_lightning.errors import InputError, did_you_mean, require_choice
from brcd_lightning.options import OptionError, require_arguments, require_option
from brcd_lightning.storage.option_types import typed_options
from brcd_lightning.storage.renamed_options import current_name

_PACKAGED = Path(__file__).parent / "conf"  # in an installed wheel
_SOURCE = Path(__file__).parents[2] / "conf"  # in a checkout
CONFIG_DIR = _PACKAGED if _PACKAGED.is_dir() else _SOURCE
CONFIG_NAME = "train"

RANDOM = "random"
NETWORKS = ("teacher", "student")
GROUPS = ("dataset", "transform", "hashing_model", "kd_method", "paradigm", "optimizer", "trainer", "logger")
_PARTS = ("data", "view_store", "collapse_monitor")
_CHOSEN = ("dataset", "hashing_model", "kd_method", "profile", "paradigm")
SCHEDULE = ("max_epochs", "learning_rate", "check_val_every", "patience")
_ALLOWED_PARTS = (
    *("backbones", "data", "hashing", "distillation", "training"),
    *("experiment.sweeps", "distributed.processes", "cli.latency_measurement"),
)
ALLOWED_TARGETS = (
    *(f"brcd_lightning.{part}." for part in _ALLOWED_PARTS),
    *("lightning.pytorch.", "torchvision.transforms.", "torch.optim."),
)
"""Allowed prefixes of `_target_`: an untrusted configuration must not call arbitrary installed code."""
_OF_HYDRA = ("_partial_", "_convert_", "_recursive_", "_args_")


def build(node: DictConfig, **arguments: object) -> Any:
    """Instantiates the `_target_` of a config node; constructors receive plain Python values.

    Raises:
        InputError: for a target outside the allow-list, an unknown or missing option, or a value that the constructor
            rejects. The message names options by their full keys.
    """
    key = node._get_full_key(None) or "config"
    for place, path, options in _targets(OmegaConf.to_container(node, resolve=True), key):
        _require_allowed(place, path, options)
    # Partial, so that arguments which no config can hold (networks, splits) never pass through OmegaConf.
    try:
        target = instantiate(node, _convert_="all", _partial_=True)
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from error
        if error.__cause__ is not None and isinstance(error.__cause__, ImportError | AttributeError):
            raise InputError(f"{key}: {str(error).splitlines()[0]}.") from error
        raise
    try:
        inspect.signature(target.func).bind(*target.args, **{**target.keywords, **arguments})
    except TypeError as error:
        raise _does_not_fit(key, target.func, error) from error
    try:
        return target(**arguments)
    except OptionError as error:
        raise error.at(key) from None


def check_parts(cfg: DictConfig, *groups: str) -> None:
    """Rejects wrong options of parts that this command builds late or never, before anything is loaded.

    The options of each node with a `_target_` are checked against its constructor's annotations; nothing is called.

    Args:
        cfg: the configuration.
        *groups: groups to check; all if none are given.

    Raises:
        InputError: naming the first wrong option by its full key.
    """
    chosen = {str(name): cfg[name] for name in cfg if (name in groups or not groups) and name != "hydra"}
    parts = {name: plain(node) for name, node in chosen.items() if isinstance(node, DictConfig)}
    for key, path, node in _targets(parts, ""):
        _require_allowed(key, path, node)
        try:
            target = get_method(path)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"{key}: {' '.join(str(error).split())}.") from error
        nested = {name for name, value in node.items() if any(True for _ in _targets(value, ""))}
        options = {name: value for name, value in node.items() if name not in ("_target_", *nested)}
        try:
            inspect.signature(target).bind_partial(**options)
            require_arguments(target, options)
        except TypeError as error:
            raise _does_not_fit(key, target, error) from error
        except OptionError as error:
            raise error.at(key) from None


def _targets(value: object, key: str) -> Iterator[tuple[str, str, dict[Any, Any]]]:
    """Key, `_target_` and all options of every part below a plain value."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield key, value["_target_"], value
        for name, child in value.items():
            yield from _targets(child, f"{key}.{name}" if key else str(name))
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _targets(item, f"{key}[{place}]")


def _require_allowed(key: str, path: object, options: Mapping[Any, Any]) -> None:
    """Rejects a `_target_` that is not a part, such as a function that a project file merely imports."""
    for name in _OF_HYDRA:
        if name in options:
            raise InputError(f"{key}: unknown option {name!r}; leave it out.")
    if isinstance(path, str) and path.startswith(ALLOWED_TARGETS):
        try:
            target = get_method(path)
        except (ImportError, AttributeError, ValueError, InstantiationException):
            return  # the caller that resolves the target reports the error
        own = f"{target.__module__}.".startswith(ALLOWED_TARGETS) and "." not in target.__qualname__
        if own and (inspect.isclass(target) or path.startswith("brcd_lightning.")):
            return
    raise InputError(f"{key}: _target_ {path!r} is not allowed; it must start with {', '.join(ALLOWED_TARGETS)}.")


def _does_not_fit(key: str, target: Callable[..., Any], error: TypeError) -> InputError:
    options = ", ".join(inspect.signature(target).parameters)
    return InputError(f"{key}: {error} for {target.__name__}; its options are {options}.")


def load_options(path: Path) -> DictConfig:
    """Reads a YAML file of options by name.

    Raises:
        InputError: if the file does not hold a mapping.
    """
    options = OmegaConf.load(path)
    if not isinstance(options, DictConfig):
        raise InputError(f"{path} must hold options by name, such as 'bits: 32'.")
    return options


def component_options(group: str) -> list[str]:
    """Names of the options of a group."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def check(cfg: DictConfig) -> None:
    """Rejects wrong values that no constructor checks early, before data or a device is touched.

    Raises:
        InputError: naming the first wrong key.
    """
    try:
        _check_keys(cfg)
        config = plain(cfg)
    except OmegaConfBaseException as error:  # of an interpolation
        raise InputError(" ".join(str(error).split())) from error
    for key, value in _flat(config, ""):
        if value == "???":
            raise InputError(f"{key} is not set; give it a value.")
    for key, value, hint in typed_options(config):
        require_option(key, value, hint)
    require_choice("student.init", cfg.student.init, (RANDOM, *component_options("kd_method")))
    if not isinstance(cfg.student.init_options, DictConfig):
        raise InputError(f"student.init_options must be options by name, got {cfg.student.init_options!r}.")


def _check_keys(cfg: DictConfig) -> None:
    """Rejects keys added with ``+`` to plain nodes; other nodes have constructors that reject unknown keys."""
    primary = load_options(CONFIG_DIR / f"{CONFIG_NAME}.yaml")
    for key in (*NETWORKS, *GROUPS, *_PARTS, *(f"{role}.backbone" for role in NETWORKS)):
        if not isinstance(OmegaConf.select(cfg, key), DictConfig):
            raise InputError(f"{key} must be a group of options, got {OmegaConf.select(cfg, key)!r}.")
    for name, node in cfg.logger.items():
        if not isinstance(node, DictConfig):
            raise InputError(f"logger.{name} must be a group of options, got {node!r}.")
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


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as plain Python values, interpolations resolved."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}


def hashing_model_of(config: Mapping[Any, Any], role: str) -> Any:
    """The hashing-model node of the ``teacher`` or ``student``; the teacher may have its own."""
    return config[role].get("hashing_model") or config["hashing_model"]


def grid_coordinates(cfg: DictConfig) -> dict[str, str]:
    """The coordinates of a run in the grid, by the names of the chosen options; for the data set see `dataset_name`.

    Raises:
        InputError: for a configuration without chosen options, such as one saved by a run.
    """
    choices = HydraConfig.get().runtime.choices
    if absent := [group for group in _CHOSEN if group not in choices]:
        raise InputError(
            f"the configuration chooses no {', '.join(absent)}; to repeat a run, give the options in "
            ".hydra/overrides.yaml of its folder; to continue it, also hydra.run.dir=FOLDER resume=auto."
        )

    coordinates = {group: choices[group] for group in _CHOSEN}
    coordinates |= {role: cfg[role].backbone.get("name") or choices[f"backbone@{role}.backbone"] for role in NETWORKS}
    coordinates["dataset"] = dataset_name(choices["dataset"], cfg.dataset, str(Path.cwd()))
    models = choices.get("hashing_model@teacher.hashing_model"), choices["hashing_model"]
    return coordinates | {"hashing_model": ">".join(dict.fromkeys(filter(None, models)))}  # or teacher>student


def compose_config(overrides: Sequence[str], config_name: str = CONFIG_NAME) -> DictConfig:
    """Composes and checks a configuration, for commands without Hydra's own main.

    Args:
        overrides: Hydra overrides from the command line.
        config_name: name of the primary configuration. The command itself checks a section of that name.

    Raises:
        InputError: if the configuration does not compose, or holds a wrong value.
    """
    from hydra import compose, initialize_config_dir  # noqa: PLC0415 (not needed by `train`)

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
    """Explains in one line why a configuration does not compose, with the key and the closest known key."""
    if isinstance(error.__cause__, InputError):  # from a launcher or a sweeper, which Hydra instantiates
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
        hint = _closest_key(key, arguments, config_name)
        if f"'{key}'" in hint:
            return f"{key} takes its options one by one: {key}.NAME=VALUE, or +{key}.NAME=VALUE for a new one."
        return f"unknown key {key!r}.{hint}"
    return " ".join(text.split())


def _closest_key(key: str, arguments: Iterable[str], config_name: str) -> str:
    from hydra import compose, initialize_config_dir  # noqa: PLC0415 (needed only for an error message)
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    groups = [argument for argument in arguments if "=" in argument and key not in argument and "hydra" not in argument]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            cfg = compose(config_name, overrides=groups)
        except (HydraException, OmegaConfBaseException):
            cfg = compose(config_name)
    keys = [key for key, _ in _flat(OmegaConf.to_container(cfg, resolve=False), "") if not key.endswith("_target_")]
    namesakes = [known for known in keys if known.rpartition(".")[2] == key]
    return f" Did you mean '{namesakes[0]}'?" if namesakes else did_you_mean(key, keys)


def _flat(value: object, prefix: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield f"{prefix}{key}", child
            yield from _flat(child, f"{prefix}{key}.")
