"""JSON files written by this project, or by an untrusted source in its name."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

from brcd_lightning.errors import InputError

_LARGEST = 2**63
_STEERING = {"Cc", "Cs"}
"""Unicode categories that our own text never contains: control characters and surrogates."""


def read_json(path: Path) -> object:
    """Content of a JSON file.

    Raises:
        InputError: for a path that is missing, not a file, or damaged, and for values that cannot be displayed:
            integers beyond 64 bits, and text with control characters or surrogates.
    """
    if not path.is_file():  # reading from a pipe would block
        raise InputError(f"{path} cannot be read: it is missing, or not a file.")
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
        problem = _problem(content)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if problem:
        raise InputError(f"{path} cannot be read: it holds {problem}.")
    return content


def _problem(value: object) -> str:
    """Description of the first value that cannot be displayed; empty if there is none."""
    if isinstance(value, dict):
        return next((found for item in (*value, *value.values()) if (found := _problem(item))), "")
    if isinstance(value, list):
        return next((found for item in value if (found := _problem(item))), "")
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a whole number beyond 64 bits"
    if isinstance(value, str) and not value.isprintable() and any(map(_steers, value)):
        return "text with characters that cannot be shown"
    return ""


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) in _STEERING and letter not in "\n\t\r"
