"""Changes of an image index: building it, adding and removing images. Each is atomic."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from brcd_lightning.data.image_names import ImageNames
from brcd_lightning.deployment.encoding.corpus import Encoded, EncodeOptions, encode_corpus
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.parts import read_readable
from brcd_lightning.deployment.image_index.bundle import ENCODING, MANIFEST, MODEL, Images, Manifest, lock, write_change
from brcd_lightning.deployment.image_index.image_index import ImageIndex
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from brcd_lightning.search.kinds import Kind

_DEFAULTS = EncodeOptions()


class Change(NamedTuple):
    """Outcome of a change."""

    changed: ImageIndex
    encoded: Encoded | None
    """None if nothing had to be encoded."""
    kept: int
    """Images whose paths the index already held."""


def build_index(
    folder: Path,
    student: HashEncoder,
    images: ImageNames,
    *,
    teacher: HashEncoder | None = None,
    kind: Kind = "auto",
    options: EncodeOptions = _DEFAULTS,
) -> Change:
    """Encodes images and indexes their codes. Parts encoded by an interrupted call are reused.

    Args:
        folder: of the new index.
        student: encodes queries, and the images (SSHP) unless a teacher is given.
        images: to be indexed.
        teacher: of the student; encodes the images (ASHP).
        kind: see `HammingIndex.build`.
        options: of encoding.

    Raises:
        InputError: if the folder has other content, or no image can be read.
    """
    if (folder / MANIFEST).exists():
        raise InputError(f"{folder} is an index already; use brcd add, or choose another folder.")
    encoder = teacher or student
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ENCODING).exists():
        raise InputError(f"{folder} is not empty and holds no index; choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        encoded = encode_corpus(encoder, images, folder / ENCODING, options)
        paths, codes = read_readable(folder / ENCODING)
        if not paths:
            raise InputError(f"none of the {len(images.names)} images of {images.root} can be read.")
        student.save_pretrained(folder / MODEL, teacher=teacher)  # after the check for parts of another encoder
        index = _first_state(
            folder, encoder, encoded.description.root, Images(np.arange(len(paths)), paths, codes), kind
        )
        shutil.rmtree(folder / ENCODING)
    return Change(index, encoded, 0)


def _first_state(folder: Path, encoder: HashEncoder, root: str, images: Images, kind: Kind) -> ImageIndex:
    """Builds the index of codes and writes the first state of the folder."""
    index = HammingIndex.build(
        torch.from_numpy(images.codes.copy()),
        bits=encoder.bits,
        ids=torch.from_numpy(images.ids),
        kind=kind,
        fingerprint=encoder.fingerprint,
    )
    manifest = Manifest(
        bits=encoder.bits,
        role=encoder.role,
        encoder=encoder.fingerprint,
        teacher=encoder.description.teacher,
        root=root,
        kind=index.kind,
        count=len(images.paths),
        change=0,
    )
    write_change(folder, manifest, index, images)
    return ImageIndex(folder, manifest, index, images)


def add_images(folder: Path, images: ImageNames, options: EncodeOptions = _DEFAULTS) -> Change:
    """Adds images to an index. Images whose paths it already holds are kept unchanged.

    Args:
        folder: of the index.
        images: below the root of the index.
        options: of encoding.

    Raises:
        InputError: for images outside the root.
    """
    with lock(folder):
        now = ImageIndex.open(folder, mmap=False)
        names, known = _below(now.root, images), set(now.images.paths)
        new = [name for name in names if name not in known]
        if not new:
            return Change(now, None, len(names))
        encoder = now.database_encoder()
        encoded = encode_corpus(encoder, ImageNames(now.root, new), folder / ENCODING, options)
        paths, codes = read_readable(folder / ENCODING)
        if paths:
            ids = int(now.images.ids.max(initial=-1)) + 1 + np.arange(len(paths))
            now.index.add(torch.from_numpy(codes.copy()), torch.from_numpy(ids))
            rows = np.concatenate([now.images.ids, ids]), now.images.paths + paths
            now = _changed(now, Images(*rows, np.concatenate([now.images.codes, codes])))
        shutil.rmtree(folder / ENCODING)
    return Change(now, encoded, len(names) - len(new))


def remove_images(folder: Path, paths: Sequence[str]) -> ImageIndex:
    """Removes images from an index; their files are not deleted.

    Args:
        folder: of the index.
        paths: of images, relative to the root of the index or absolute; a folder selects all images below it.

    Raises:
        InputError: for a path that is not in the index, or if no image would be left.
    """
    with lock(folder):
        now = ImageIndex.open(folder, mmap=False)
        unwanted = np.zeros(len(now), bool)
        for given in paths:
            path = Path(given)
            name = path.relative_to(now.root).as_posix() if path.is_relative_to(now.root) else path.as_posix()
            found = np.array([each == name or each.startswith(f"{name}/") for each in now.images.paths])
            if not found.any():
                raise InputError(f"{folder} holds no image {given}; give paths as brcd search prints them.")
            unwanted |= found
        if unwanted.all():
            raise InputError(f"no image of {folder} would be left; remove the folder instead.")
        now.index.remove(torch.from_numpy(now.images.ids[unwanted]))
        kept = [path for path, gone in zip(now.images.paths, unwanted, strict=True) if not gone]
        return _changed(now, Images(now.images.ids[~unwanted], kept, now.images.codes[~unwanted]))


def _changed(now: ImageIndex, images: Images) -> ImageIndex:
    """Writes the next state of an index."""
    manifest = replace(now.manifest, count=len(images.paths), change=now.manifest.change + 1)
    write_change(now.folder, manifest, now.index, images)
    return ImageIndex(now.folder, manifest, now.index, images)


def _below(root: Path, images: ImageNames) -> list[str]:
    """Names relative to the root of an index."""
    folder = images.root.resolve()
    if not folder.is_relative_to(root):
        raise InputError(f"images must lie below {root}, the root of the index, got {folder}.")
    prefix = folder.relative_to(root).as_posix()
    return images.names if prefix == "." else [f"{prefix}/{name}" for name in images.names]
