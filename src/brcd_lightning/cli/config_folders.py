"""Check of a user's configuration files for YAML references that Hydra would expand without limit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import yaml  # type: ignore[import-untyped]  # omegaconf brings it, without its stubs

from brcd_lightning.errors import InputError

MOST_VALUES = 100_000
"""Maximum number of values in a file, each counted once per reference."""
_DEPTHS = ("*.yaml", "*/*.yaml", "*/*/*.yaml")  # a primary file, a group, a group in a group


def require_short_files(arguments: Sequence[str]) -> None:
    """Rejects YAML files whose references (``*name``) expand to more than `MOST_VALUES` values: Hydra copies each.

    Args:
        arguments: arguments of the command; only files below ``--config-dir`` and ``--config-path`` are read.

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
    except argparse.ArgumentError:  # an option without a folder, which Hydra reports
        return
    yield from filter(None, (given.config_dir, given.config_path))


class _Parser(argparse.ArgumentParser):
    """Parses Hydra's options, abbreviated or not, and prints nothing."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def _values(path: Path) -> float:
    """Number of values in a file with references expanded; infinite for a self-reference, 0 if it is not YAML."""
    try:
        content = path.read_bytes() if path.is_file() else b""
        root = yaml.compose(content, Loader=yaml.SafeLoader) if b"&" in content and b"*" in content else None
        return 0 if root is None else _size(root, {})
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):  # Hydra reports the error
        return 0


def _size(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Number of values in a node; `sizes` caches the numbers by the identity of the nodes."""
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")  # in case the node contains itself
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
        sizes[id(node)] = 1 + sum(_size(each, sizes) for each in flat)
    return sizes[id(node)]
