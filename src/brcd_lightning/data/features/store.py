"""Files of the view store: features of a frozen backbone, computed once and read by any number of jobs.

A store is one folder for one (backbone and weights, split, transform, precision). It holds memory-mapped parts, see
`layout`: ``evaluation``, ``views_0_1``, ``views_1_2``, ``views_2_4``, ``views_4_8`` and so on. ``manifest.json``
lists the complete parts, with a checksum for every block of rows. An unfinished part is called ``<part>.building`` and
has a journal of its finished blocks, so that the next job resumes it after a kill.

Shapes: E images, n training images, d features.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.data.features.layout import Part, parts_of
from brcd_lightning.data.features.table import FeatureTable
from brcd_lightning.errors import InputError
from brcd_lightning.storage.atomic import write_text
from brcd_lightning.storage.locks import locked

Dtype = Literal["float16", "float32"]
DTYPES: dict[Dtype, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
MANIFEST = "manifest.json"
VERSION = 1


class FeatureStore:
    """One store on disk.

    Args:
        root: folder of all stores.
        about: everything that determines the features; its digest names the store.
        images: E.
        train: n.
        num_features: d.
        dtype: ``float16`` or ``float32``.
    """

    def __init__(
        self, root: Path, about: Mapping[str, Any], images: int, train: int, num_features: int, dtype: Dtype
    ) -> None:
        self.about = {
            **about,
            "version": VERSION,
            "images": images,
            "train": train,
            "num_features": num_features,
            "dtype": dtype,
        }
        text = json.dumps(self.about, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = root / self.fingerprint
        self.images, self.train, self.num_features = images, train, num_features
        self.dtype = DTYPES[dtype]

    def lock(self) -> AbstractContextManager[None]:
        """The lock held by the job that builds the store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return locked(self.folder / "build.lock", "computes the same features")

    def bytes_of(self, parts: Sequence[Part]) -> int:
        """Size of parts on disk, in bytes."""
        return sum(part.items * part.rows for part in parts) * self.num_features * self.dtype.itemsize

    def missing(self, amounts: Mapping[str, int]) -> list[Part]:
        """Incomplete parts among those that a job with these amounts reads."""
        whole = self._manifest()
        return [part for part in parts_of(self.images, self.train, amounts) if part.name not in whole]

    def open(self, amounts: Mapping[str, int]) -> FeatureTable:
        """Maps the parts of a job into memory, after verifying every checksum.

        Raises:
            InputError: naming the damaged part and images.
        """
        manifest = self._manifest()
        parts = parts_of(self.images, self.train, amounts)
        arrays = [self._checked(part, manifest[part.name]) for part in parts]
        return FeatureTable(arrays, self.images, self.train)

    def _manifest(self) -> dict[str, list[str]]:
        """Checksums of each complete part."""
        path = self.folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["about"] != self.about:
                raise ValueError("it describes other features")
            return {name: _checksums(listed) for name, listed in content["parts"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"feature store {path} is damaged ({error}); remove its folder to build it again."
            ) from error

    def _checked(self, part: Part, checksums: Sequence[str]) -> np.ndarray:
        path = self.folder / part.name
        shape = (part.items, part.rows, self.num_features)
        try:
            # Copy on write: torch requires writable memory, although nothing is ever written.
            array = np.memmap(path, dtype=self.dtype, mode="c", shape=shape)
        except (OSError, ValueError) as error:
            raise InputError(f"feature store part {path} cannot be read ({error}); remove {self.folder}.") from error
        if len(checksums) != len(part.blocks):
            raise InputError(
                f"feature store {self.folder / MANIFEST} is damaged: it holds {len(checksums)} checksums of "
                f"{part.name}, not {len(part.blocks)}; remove its folder to build it again."
            )
        for block, checksum in zip(part.blocks, checksums, strict=True):
            if _sha256(array[block.start : block.stop]) != checksum:
                raise InputError(
                    f"feature store part {path} is damaged at images {block.start} to {block.stop - 1}; remove "
                    f"{self.folder} to build it again."
                )
        return array


class PartWriter:
    """Writes one part block by block, resuming where a killed writer stopped. Requires the store's lock."""

    def __init__(self, store: FeatureStore, part: Part) -> None:
        self.store, self.part = store, part
        store.folder.mkdir(parents=True, exist_ok=True)
        self._target = store.folder / f"{part.name}.building"
        self._journal = store.folder / f"{part.name}.journal.json"
        shape = (part.items, part.rows, store.num_features)
        if self._target.is_symlink():  # otherwise the file that it points to would be overwritten
            self._target.unlink()
        whole = store.folder / part.name
        if whole.exists() and self._journal.exists():
            os.replace(whole, self._target)  # killed after the rename, before the entry in the manifest
        resumable = self._target.exists() and self._target.stat().st_size == store.bytes_of([part])
        if not resumable:
            self._journal.unlink(missing_ok=True)
            self._allocate(store.bytes_of([part]))
        self._array = np.memmap(self._target, dtype=store.dtype, mode="r+", shape=shape)
        self._checksums = self._finished_blocks()

    def _allocate(self, size: int) -> None:
        """Allocates the disk space in advance: a full disk under a mapped file would kill the process silently."""
        try:
            with self._target.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # not everywhere
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
        except OSError as error:
            self._target.unlink(missing_ok=True)
            raise InputError(
                f"view store: no room for {size / 1e9:.2f} GB in {self.store.folder} ({error.strerror or error}); free "
                "some, lower view_store.views, or set view_store.folder."
            ) from error

    def _finished_blocks(self) -> dict[str, str]:
        """Blocks in the journal whose content matches: a crash of the machine may have lost some of it."""
        try:
            journal = dict(json.loads(self._journal.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return {}
        blocks = {str(block.start): block for block in self.part.blocks}
        return {
            start: checksum
            for start, checksum in journal.items()
            if start in blocks and _sha256(self._array[blocks[start].start : blocks[start].stop]) == checksum
        }

    def todo(self) -> list[range]:
        """Blocks that are still missing."""
        return [block for block in self.part.blocks if str(block.start) not in self._checksums]

    def write(self, block: range, features: Tensor) -> None:
        """Stores the features (images of the block, rows, d) of one block.

        Raises:
            InputError: for features that are not finite, as stored.
        """
        values = features.cpu().to(torch.float16 if self.store.dtype.itemsize == 2 else torch.float32)
        if not bool(values.isfinite().all()):
            raise InputError(
                f"view store: features of {self.part.name}, images {block.start} to {block.stop - 1}, are not finite "
                f"in {values.dtype}; set view_store.dtype=float32, or another trainer.precision."
            )
        self._array[block.start : block.stop] = values.numpy()
        self._array.flush()
        self._checksums[str(block.start)] = _sha256(self._array[block.start : block.stop])
        write_text(self._journal, json.dumps(self._checksums))

    def finish(self) -> None:
        """Publishes the part: renames it and adds it to the manifest."""
        store = self.store
        os.replace(self._target, store.folder / self.part.name)
        parts = store._manifest()
        parts[self.part.name] = [self._checksums[str(block.start)] for block in self.part.blocks]
        write_text(store.folder / MANIFEST, json.dumps({"about": store.about, "parts": parts}, indent=1))
        self._journal.unlink(missing_ok=True)


def _checksums(listed: object) -> list[str]:
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ValueError("it lists no checksums")
    return listed


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
