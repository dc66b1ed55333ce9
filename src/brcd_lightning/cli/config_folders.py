"""Configuration files in folders that a user names: references that Hydra would follow without end."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

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
        for path in (path for depth in _DEPTHS for path in sorted(folder.glob(depth)) if path.is_file()):
            content = path.read_bytes()
            if b"&" in content and b"*" in content and _values(content) > MOST_VALUES:
                raise InputError(
                    f"{path} refers to its own values (*name) so often that it stands for more than {MOST_VALUES:,}; "
                    "write them out, or leave the file out."
                )


def _folders(arguments: Sequence[str]) -> Iterator[Path]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--config-path", "-cp", type=Path)
    try:
        given, _ = parser.parse_known_args(arguments)
    except SystemExit:  # without a folder: Hydra says so
        return
    yield from filter(None, (given.config_dir, given.config_path))


def _values(content: bytes) -> float:
    """Values of a file with its references followed; infinite for one that refers to itself."""
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = float("inf")  # for itself inside
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            flat = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
            sizes[id(node)] = 1 + sum(map(size, flat))
        return sizes[id(node)]

    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        return 0 if root is None else size(root)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):  # Hydra says what is wrong
        return 0
