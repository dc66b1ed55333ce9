"""Names of images without labels: of a folder, of a list, or of one image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from brcd_lightning.data.image_files import IMAGE_SUFFIXES, image_files
from brcd_lightning.data.label_lists import read_names
from brcd_lightning.errors import InputError


class ImageNames(NamedTuple):
    """Images on disk."""

    root: Path
    """Folder that the names are relative to."""
    names: list[str]
    """Paths with forward slashes, in order."""


def image_names(source: Path, column: str = "path") -> ImageNames:
    """Lists images.

    Args:
        source: a folder, whose images are found at any depth and returned sorted; an image; or a list, whose paths are
            relative to its folder, see `label_lists.read_names`.
        column: column of the paths, if the list is a table.

    Raises:
        InputError: if there are no images, or a list is malformed.
    """
    if os.path.isdir(source):
        (names,) = image_files(source)
        if not names:
            raise InputError(f"{source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    elif not os.path.isfile(source):
        raise InputError(f"{source} is not a folder, an image or a list of images.")
    elif source.suffix.lower() in IMAGE_SUFFIXES:
        return ImageNames(source.parent, [source.name])
    else:
        names = read_names(source, column)
        if not any((source.parent / name).exists() for name in names):
            raise InputError(f"none of the {len(names)} images listed in {source} exists, such as {names[0]}.")
    return ImageNames(source if os.path.isdir(source) else source.parent, names)
