"""The folder of an image index.

``index.json`` names all other files and is replaced last, so that every change is atomic. n counts the changes; files
of an earlier n are removed after the change.

- ``codes-<n>.safetensors``: a `HammingIndex`.
- ``images-<n>.parquet``: id, path and packed code of every image.
- ``model/``: a `HashEncoder`, with its teacher if the teacher made the codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from brcd_lightning.deployment.encoding.parts import codes_of
from brcd_lightning.deployment.image_index.searched import CodesOfImages
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from brcd_lightning.storage.atomic import atomic_path, write_text
from brcd_lightning.storage.locks import locked

MANIFEST, MODEL, ENCODING = "index.json", "model", "encoding"
FORMAT, VERSION = "brcd_lightning.ImageIndex", 1


@dataclass(frozen=True)
class Manifest(CodesOfImages):
    """Description of the folder of an image index.

    Args:
        change: number of changes since the index was built.
    """

    change: int


class Images(NamedTuple):
    """The images of an index, in the order of their ids."""

    ids: np.ndarray
    """(N,) int64, ascending."""
    paths: list[str]
    """Relative to the root, with forward slashes."""
    codes: np.ndarray
    """(N, B) uint8 packed codes."""


def codes_path(folder: Path, change: int) -> Path:
    """Path of the `HammingIndex`."""
    return folder / f"codes-{change}.safetensors"


def images_path(folder: Path, change: int) -> Path:
    """Path of the table of images."""
    return folder / f"images-{change}.parquet"


def lock(folder: Path) -> AbstractContextManager[None]:
    """Lock to be held while an index is changed."""
    return locked(folder / ".lock", "changes the same index")


def read_manifest(folder: Path) -> Manifest:
    """Reads the description of an image index.

    Raises:
        InputError: if the folder is not an image index.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT or content.pop("version") != VERSION:
            raise ValueError("another format")
        return Manifest(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder} is not an image index; make one with: brcd index MODEL IMAGES --out {folder}"
        ) from error


def write_change(folder: Path, manifest: Manifest, index: HammingIndex, images: Images) -> None:
    """Writes a new state of the index, then removes the previous one."""
    index.save(codes_path(folder, manifest.change))
    _write_images(images_path(folder, manifest.change), images)
    content: Mapping[str, object] = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    write_text(folder / MANIFEST, json.dumps(content, indent=1, sort_keys=True) + "\n")
    kept = {codes_path(folder, manifest.change), images_path(folder, manifest.change)}
    for old in (*folder.glob("codes-*.safetensors"), *folder.glob("images-*.parquet")):
        if old not in kept:
            old.unlink(missing_ok=True)


def _write_images(path: Path, images: Images) -> None:
    columns = {
        "id": pa.array(images.ids, pa.int64()),
        "path": pa.array(images.paths, pa.string()),
        "code": pa.array([row.tobytes() for row in images.codes], pa.binary(images.codes.shape[1])),
    }
    with atomic_path(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)


def read_images(path: Path) -> Images:
    """Reads the table of images.

    Raises:
        InputError: if it is missing or damaged.
    """
    try:
        table = parquet.read_table(path)
        return Images(table.column("id").to_numpy(), table.column("path").to_pylist(), codes_of(table.column("code")))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is missing or damaged; index the images again.") from error
