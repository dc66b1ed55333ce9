"""Rejects options that need more memory than the machine has, before anything is allocated."""

from __future__ import annotations

import os

from brcd_lightning.options import OptionError

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def require_memory(name: str, value: object, needed_bytes: int) -> None:
    """Raises `InputError` if an option needs more memory than the machine has in total.

    Args:
        name: full key of the option.
        value: its value.
        needed_bytes: lower bound of the memory that it allocates.
    """
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed_bytes > installed:
        group, _, option = name.rpartition(".")
        problem = f"needs {_size(needed_bytes)} of memory, this machine has {_size(installed)}; lower it."
        raise OptionError(group, f"{option}={value}", problem)


def _size(count: float) -> str:
    """Formats bytes in the unit that leaves one to three digits before the point, and at least two in all."""
    count /= 1000
    for unit in _UNITS:
        if round(count) < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if round(count, 1) >= 10 else f"{count:.1f} {unit}"
