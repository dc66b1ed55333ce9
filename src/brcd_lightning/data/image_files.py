"""Image files below a folder: the suffixes that are read, and a walk that is cheap for a million files."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import features

from brcd_lightning.distributed.processes import print_rank_zero
from brcd_lightning.errors import InputError

_SURROGATES = re.compile("[\ud800-\udfff]")


def _has_avif() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow before 11.3 warns that it does not know this feature
        return bool(features.check("avif"))


IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"}
    | ({".avif"} if _has_avif() else set())
)
"""Suffixes of files that are read, in lower case."""
OTHER_IMAGES = (
    frozenset(
        {".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".tga", ".ico", ".eps", ".raw", ".dng", ".cr2"}
        | {".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
    )
    - IMAGE_SUFFIXES
)
"""Suffixes of images that are not read. Their number is reported, so that skipped files do not go unnoticed."""


def image_files(folder: Path, parts: Sequence[str] = ("",)) -> list[list[str]]:
    """Sorted names of the images below each ``folder/part``; hidden files and folders are skipped.

    Prints one line with the number of images whose suffixes are not read.

    Args:
        folder: folder that the names are relative to.
        parts: folders below it, with forward slashes; ``""`` for the folder itself.

    Returns:
        For each part, relative paths with forward slashes.

    Raises:
        InputError: for a name that is not valid UTF-8.
    """
    others: Counter[str] = Counter()
    names = [sorted(_walk(str(folder), part, others)) for part in parts]
    require_text(folder, (name for part in names for name in part))
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        read = ", ".join(sorted(IMAGE_SUFFIXES))
        print_rank_zero(f"Not read, files of other suffixes in {folder}: {counts}. Convert them to one of {read}.")
    return names


def require_text(source: Path, names: Iterable[str]) -> None:
    """Raises `InputError` for a file name whose bytes are not valid UTF-8."""
    strange = next((name for name in names if not name.isascii() and _SURROGATES.search(name)), None)
    if strange is not None:
        raise InputError(f"{source} holds a file whose name is not UTF-8, {strange!r}; rename it.")


def _walk(root: str, part: str, others: Counter[str]) -> Iterator[str]:
    """Names in arbitrary order, as plain strings: a million path objects take a minute to create."""
    start = f"{root}/{part}" if part else root
    for place, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = os.path.relpath(place, root).replace(os.sep, "/")
        prefix = "" if prefix == "." else f"{prefix}/"
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in IMAGE_SUFFIXES:
                yield f"{prefix}{name}"
            elif suffix in OTHER_IMAGES:
                others[suffix] += 1
