"""Configuration files in folders that a user names: references that Hydra would follow without end."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import yaml  # type: ignore[import-untyped]  # omegaconf brings it, without its stubs

from brcd_lightning.errors import InputError

MOST_VALUES = 100_000
"""Of a file, each counted as often as it is referred to."""
_DEPTHS = ("*.yaml", "*/*.yaml", "*/*/*.yaml")  # a primary file, a group, a group in a group


def require_short_files(arguments: Sequence[str]) -> None:
    """Refuses YAML files whose references (``*name``) stand for more than `MOST_VALUES` values: Hydra copies each.

    Args:
        arguments: of the command; only files below ``--config-dir`` and ``--config-path`` are read.

    Raises:
        InputError: naming the file.
    """
    for folder in _folders(arguments):
        for path in (path for depth in _DEPTHS for path in sorted(folder.glob(depth))):
            if _values(path) > MOST_VALUES:
                raise InputError(
                    f"{path} refers to its own values (*name) so often that it stands for more than {MOST_VALUES:,}; "
                    "write them out, or leave the file out."
                )


def _folders(arguments: Sequence[str]) -> Iterator[Path]:
    parser = _Parser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--config-path", "-cp", type=Path)
    try:
        given, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # without a folder: Hydra says so
        return
    yield from filter(None, (given.config_dir, given.config_path))


class _Parser(argparse.ArgumentParser):
    """Knows Hydra's options, abbreviated or not, and prints nothing."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def _values(path: Path) -> float:
    """Values of a file with its references followed; infinite for one that refers to itself, 0 for what is not YAML."""
    try:
        content = path.read_bytes() if path.is_file() else b""
        root = yaml.compose(content, Loader=yaml.SafeLoader) if b"&" in content and b"*" in content else None
        return 0 if root is None else _size(root, {})
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):  # Hydra says what is wrong
        return 0


def _size(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Values of a node, of which those of the nodes in `sizes` are known by their identity."""
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")  # for itself inside
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
        sizes[id(node)] = 1 + sum(_size(each, sizes) for each in flat)
    return sizes[id(node)]
