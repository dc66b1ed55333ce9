"""Sources of images: in memory, or in scanned files."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from brcd_lightning.data.image_scan import read_image, scan_files
from brcd_lightning.data.names import printable
from brcd_lightning.errors import InputError


class ImageSource(ABC):
    """All images of a data set, addressed by position.

    Args:
        ids: one stable name per image, independent of the location of the data.
        labels: (N,) int64 class indices or (N, C) multi-hot; used for relevance in evaluation, and by
            distillation methods that declare it.
        skipped: reasons of images skipped as unreadable, by name.
        classes: names of the classes, in the order of the labels; empty if they have none.
    """

    one_size: bool = False
    """True if all images have the same height and width."""

    def __init__(
        self,
        ids: Sequence[str],
        labels: Tensor,
        skipped: Mapping[str, str] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        if len(ids) != len(labels):
            raise InputError(f"a data set needs one label per image, got {len(ids)} images and {len(labels)} labels.")
        self.ids = list(ids)
        self.labels = labels
        self.skipped = dict(skipped or {})
        self.classes = [printable(str(name)) for name in classes]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def load(self, position: int) -> Tensor:
        """Pixels of one image: (3, H, W) uint8, RGB."""

    @abstractmethod
    def digest(self, position: int) -> bytes:
        """SHA-256 of one image's content."""


class ArrayImages(ImageSource):
    """Images in memory.

    Args:
        pixels: (N, 3, H, W) uint8.
        ids: see `ImageSource`.
        labels: see `ImageSource`.
        classes: see `ImageSource`.
    """

    one_size = True

    def __init__(self, pixels: Tensor, ids: Sequence[str], labels: Tensor, classes: Sequence[str] = ()) -> None:
        super().__init__(ids, labels, classes=classes)
        self.pixels = pixels

    def load(self, position: int) -> Tensor:
        """Pixels of one image."""
        return self.pixels[position]

    def digest(self, position: int) -> bytes:
        """SHA-256 of the pixels."""
        return hashlib.sha256(self.pixels[position].numpy().tobytes()).digest()


class FileImages(ImageSource):
    """Images on disk.

    Args:
        root: folder that the names are relative to.
        names: relative paths with forward slashes; they are the ids.
        labels: see `ImageSource`.
        digests: SHA-256 of each file.
        skipped: see `ImageSource`.
        classes: see `ImageSource`.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: Tensor,
        digests: Sequence[bytes],
        skipped: Mapping[str, str] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(names, labels, skipped, classes)
        self.root = root
        self.digests = list(digests)

    def load(self, position: int) -> Tensor:
        """Pixels of one image."""
        try:
            return read_image(self.root / self.ids[position], digest=self.digests[position])
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"image {self.root / self.ids[position]} cannot be decoded: {error}.") from error

    def digest(self, position: int) -> bytes:
        """SHA-256 of the file."""
        return self.digests[position]


def readable_images(
    root: Path, names: Sequence[str], labels: Tensor, skip_corrupt: bool, classes: Sequence[str] = ()
) -> FileImages:
    """Readable images, in the order of `names`.

    Args:
        root: folder that the names are relative to.
        names: relative paths, without duplicates.
        labels: one row per name, see `ImageSource`.
        skip_corrupt: see `scan_files`.
        classes: see `ImageSource`.

    Raises:
        InputError: if no image can be read.
    """
    scan = scan_files(root, names, skip_corrupt)
    # One list of rows selects names, labels and digests, so that their orders cannot differ.
    kept = [(row, digest) for row, digest in enumerate(scan.digests) if digest is not None]
    if names and not kept:
        raise InputError(
            f"none of the {len(names)} images of {root} can be read, {names[0]}: {scan.unreadable[names[0]]}."
        )
    rows = [row for row, _ in kept]
    return FileImages(
        root,
        [names[row] for row in rows],
        labels[torch.tensor(rows, dtype=torch.long)],
        [digest for _, digest in kept],
        scan.unreadable,
        classes,
    )


def require_folder(root: str | None, what: str) -> Path:
    """Returns the folder `root`.

    Raises:
        InputError: if it is not given or does not exist.
    """
    if root is None:
        raise InputError(f"dataset.root is not set; point it at the folder of {what}.")
    path = Path(root).expanduser()
    if not path.is_dir():
        raise InputError(f"dataset.root {str(path)!r} is not a folder; point it at the folder of {what}.")
    return path
