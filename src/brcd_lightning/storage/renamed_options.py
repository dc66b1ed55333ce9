"""Renamed options: old names are read in files of release 0.1.0, and on the command line for one more release."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

RENAMED = {
    "backbone.tap": "backbone.feature_layer",
    "collapse": "collapse_monitor",
    "gather": "gather_distributed",
    "hydra/sweeper=search": "hydra/sweeper=optuna",
    "kd_method.restarts": "kd_method.n_init",
    "student.backbone.tap": "student.backbone.feature_layer",
    "tap": "feature_layer",
    "teacher.backbone.tap": "teacher.backbone.feature_layer",
}
"""Current full names by those of 0.1.0. Only the last part of a name changes, never its parent."""


def current_name(key: str) -> str:
    """The current name of an option, given its full name in this or an earlier release."""
    head, dot, tail = key.partition(".")
    if head in RENAMED:
        return f"{RENAMED[head]}{dot}{tail}"
    return RENAMED.get(key, key)


def current_overrides(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command with current option names; prints a warning on stderr for each renamed option."""
    result = []
    for argument in arguments:
        prefix, name, rest = _parts(argument)
        new = RENAMED.get(argument) or f"{prefix}{current_name(name)}{rest}"
        if new != argument:
            sys.stderr.write(f"warning: {argument} is deprecated and will be removed; use: {new}\n")
        result.append(new)
    return result


def _parts(argument: str) -> tuple[str, str, str]:
    """Splits an override into prefix (``+``, ``++`` or ``~``), option name, and the rest from the equals sign."""
    match = re.fullmatch(r"([+~]*)([\w.]+)(=.*)?", argument, flags=re.DOTALL)
    return (match[1], match[2], match[3] or "") if match else ("", argument, "")
