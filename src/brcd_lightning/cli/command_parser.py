"""Command-line arguments with one-line errors and ranges of numbers."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from brcd_lightning.errors import InputError, did_you_mean

_SHOWN = 80
"""Characters of a wrong path in a message."""


class CommandParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that raises `InputError` instead of printing its usage and exiting.

    Options cannot be abbreviated, because a later option could make an abbreviation ambiguous or change its meaning.

    Args:
        options: arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raises `InputError` with one line."""
        told = re.sub(r"^argument (\S+): (?=must )", r"\1 ", message).removeprefix("argument ")
        known = [option for action in self._actions for option in action.option_strings]
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        hint = did_you_mean(unknown[1], known) if unknown else ""
        raise InputError(f"{' '.join(told.split())}.{hint} {self.prog} --help explains all arguments.")


def integer(least: int, most: int) -> Callable[[str], int]:
    """The type of an argument that is an integer in least..most."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be an integer in {least}..{most}, got {text!r}")
        return int(text)

    return parse


def unit_interval(text: str) -> float:
    """The type of an argument that is a number in [0, 1].

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1], got {text!r}")
    return value


def any_path(text: str) -> Path:
    """The type of a path, with ``~`` expanded. The path need not exist.

    Raises:
        argparse.ArgumentTypeError: for an empty path, or one that cannot be reached.
    """
    if not text:
        raise argparse.ArgumentTypeError("must be a path, got ''")
    try:
        found = Path(text).expanduser()
        found.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no access, no such home, a null byte
        reason = getattr(error, "strerror", None) or error
        raise argparse.ArgumentTypeError(f"must be a path that can be reached, got {_short(text)}: {reason}") from error
    return found


def output_folder(text: str) -> Path:
    """The type of an output folder, which is created if it does not exist.

    Raises:
        argparse.ArgumentTypeError: if the folder cannot be created or written to.
    """
    found = any_path(text)
    nearest = next(each for each in (found, *found.absolute().parents) if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        reason = "may not be written to" if nearest.is_dir() else "is a file"
        raise argparse.ArgumentTypeError(f"must be a folder that can be made, got {_short(text)}: {nearest} {reason}")
    return found


def output_file(text: str) -> Path:
    """The type of an output file, which is replaced if it exists.

    Raises:
        argparse.ArgumentTypeError: if the file cannot be written.
    """
    found = any_path(text)
    if found.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file, got {_short(text)}, which is a folder")
    output_folder(str(found.absolute().parent))
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


THREADS = integer(1, 1024)
"""Type of a number of threads."""
RESULTS = integer(1, 1_000_000)
"""Type of a number of results."""
DISTANCE = integer(0, 1 << 16)
"""Type of a Hamming distance."""
