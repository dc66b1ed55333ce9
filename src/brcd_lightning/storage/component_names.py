"""Names of components on disk: files hold ``type: brcd`` instead of the import path of a configuration.

Import paths change when modules move, but files of runs, teachers and students must remain readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brcd_lightning.storage.renamed_options import current_name

TARGET, TYPE = "_target_", "type"
_NAMED_BY_MODULE = ("dataset", "hashing_model", "kd_method")
"""Groups with one component per module; the component is named after the module."""


def component_name(key: str, target: str) -> str:
    """The name of a component, such as ``cifar10``, ``timm``, ``cibhash`` or ``brcd``.

    Args:
        key: full key of the node in the configuration, such as ``student.backbone``.
        target: its import path; a name is returned as it is.
    """
    module, _, name = target.rpartition(".")
    group = key.rpartition(".")[2]
    if group in _NAMED_BY_MODULE and module:
        return module.rpartition(".")[2]
    return name.removesuffix("_backbone") if group == "backbone" else name


def named(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A plain configuration with ``type: <name>`` for ``_target_: <import path>``, and with current option names.

    Args:
        config: plain and resolved; a configuration that already holds names is returned unchanged.
        prefix: full key of the node, empty for the whole configuration.
    """
    result: dict[str, Any] = {}
    for key, value in config.items():
        full = f"{prefix}.{key}" if prefix else key
        if key == TARGET:
            result[TYPE] = component_name(prefix, value)
        else:
            leaf = current_name(full).rpartition(".")[2]
            result[leaf] = named(value, full) if isinstance(value, Mapping) else value
    return result


def named_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """`named` for options by full keys: ``kd_method._target_`` becomes ``kd_method.type``."""
    result: dict[str, Any] = {}
    for key, value in options.items():
        parent, _, leaf = key.rpartition(".")
        if leaf == TARGET:
            result[current_name(f"{parent}.{TYPE}")] = component_name(parent, value)
        else:
            result[current_name(key)] = value
    return result


def named_architecture(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The description in a checkpoint, with names in place of the import paths of older releases."""
    result = named(architecture)
    if isinstance(model := result.get("hashing_model"), str):
        result["hashing_model"] = component_name("hashing_model", model)
    if isinstance(about := result.get("about"), Mapping):
        # A student stores its distillation method and the whole configuration, a teacher only its own part.
        parts = {"method": "kd_method", "config": "" if "method" in about else "teacher"}
        given = architecture["about"]
        result["about"] = dict(about) | {key: named(given[key], group) for key, group in parts.items() if key in given}
    return result
