"""`ImageIndex`: opens and searches an index of image files; `changes` builds and changes one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from brcd_lightning.deployment.encoding.encoder import HashEncoder, ImageLike
from brcd_lightning.deployment.image_index.bundle import (
    MODEL,
    Images,
    Manifest,
    codes_path,
    images_path,
    read_images,
    read_manifest,
)
from brcd_lightning.errors import InputError, require_non_negative_int, require_positive_int
from brcd_lightning.search import HammingIndex


class Hit(NamedTuple):
    """An image that was found."""

    path: str
    """Relative to the root of the index."""
    distance: int
    """Hamming distance to the query."""
    score: float | None
    """Of a rescored search, which it is ordered by: larger is nearer."""
    id: int
    """Of the image in this index."""


class Found(NamedTuple):
    """Answer to one query."""

    hits: list[Hit]
    prepare_ms: float
    """Decoding, cropping and resizing."""
    encode_ms: float
    search_ms: float


class ImageIndex:
    """An index of image files. Make one with `changes.build_index`, and open it with `open`.

    Args:
        folder: of the index, see `bundle`.
        manifest: what it holds.
        index: of the codes.
        images: ids, paths and codes.
    """

    def __init__(self, folder: Path, manifest: Manifest, index: HammingIndex, images: Images) -> None:
        self.folder, self.manifest, self.index, self.images = folder, manifest, index, images

    def __len__(self) -> int:
        return len(self.images.paths)

    @property
    def root(self) -> Path:
        """Folder that the paths are relative to."""
        return Path(self.manifest.root)

    @classmethod
    def open(cls, folder: Path, *, mmap: bool = True) -> Self:
        """Opens an index.

        Args:
            folder: of the index.
            mmap: leave the codes on disk; such an index is read-only.

        Raises:
            InputError: if it is none, or damaged.
        """
        manifest = read_manifest(folder)
        index = HammingIndex.load(
            codes_path(folder, manifest.change), bits=manifest.bits, fingerprint=manifest.encoder, mmap=mmap
        )
        images = read_images(images_path(folder, manifest.change))
        if len(images.paths) != manifest.count or len(index) != manifest.count:
            raise InputError(f"{folder} does not hold the {manifest.count} images that it names; index them again.")
        return cls(folder, manifest, index, images)

    def query_encoder(self, model: str | Path | None = None) -> HashEncoder:
        """The encoder of queries: the student that lies in the index, or another model that may query it.

        Args:
            model: as `HashEncoder.from_pretrained` takes it; None for the model of the index.

        Raises:
            InputError: for a model of another Hamming space.
        """
        if model is None:
            return HashEncoder.from_pretrained(self.folder / MODEL)
        encoder = HashEncoder.from_pretrained(model)
        self.check(encoder)
        return encoder

    def database_encoder(self) -> HashEncoder:
        """The encoder of the images of this index."""
        return HashEncoder.from_pretrained(self.folder / MODEL, role=self.manifest.role)

    def check(self, encoder: HashEncoder) -> None:
        """Raises `InputError` unless the codes of an encoder may be compared with those of this index.

        The same encoder (SSHP, or the teacher by itself) and a student of the teacher that made the codes (ASHP) may.
        """
        asymmetric = self.manifest.role == "teacher" and encoder.description.teacher == self.manifest.teacher
        if encoder.fingerprint != self.manifest.encoder and not asymmetric:
            raise InputError(
                f"{self.folder} holds codes of {self.manifest.role} {self.manifest.encoder}, and {encoder.role} "
                f"{encoder.fingerprint} makes other ones; query it with its own model, or index the images again."
            )

    def search(
        self,
        image: ImageLike,
        encoder: HashEncoder,
        k: int = 10,
        *,
        rescore: bool = False,
        max_distance: int | None = None,
    ) -> Found:
        """The nearest images of one query.

        Args:
            image: a path, a PIL image or pixels.
            encoder: of queries, see `query_encoder`.
            k: most results.
            rescore: order the best 10 k by soft values of the query, see `HammingIndex.search`.
            max_distance: leave out what is farther.
        """
        started = time.perf_counter()
        pixels = encoder.prepare(image)
        prepared = time.perf_counter()
        codes, values = encoder.encode_pixels(pixels[None])
        encoded = time.perf_counter()
        hits = self.nearest(codes, k, rescore=values if rescore else None, max_distance=max_distance)
        done = time.perf_counter()
        return Found(hits, 1e3 * (prepared - started), 1e3 * (encoded - prepared), 1e3 * (done - encoded))

    def nearest(
        self, codes: torch.Tensor, k: int = 10, *, rescore: torch.Tensor | None = None, max_distance: int | None = None
    ) -> list[Hit]:
        """The nearest images of one query that is encoded already.

        Args:
            codes: (1, B) uint8, packed.
            k: most results.
            rescore: soft values (1, b) that order the best 10 k; None for the order of a Hamming search.
            max_distance: leave out what is farther.
        """
        require_positive_int("k", k)
        if max_distance is not None:
            require_non_negative_int("max_distance", max_distance)
        farthest = self.manifest.bits if max_distance is None else max_distance
        k = min(k, max(1, len(self)))
        scores: list[float | None] = [None] * k
        if rescore is None:
            distances, ids = self.index.search(codes, k)
        else:
            distances, ids, ordered = self.index.search(codes, k, rescore=rescore)
            scores = ordered[0].tolist()
        places = np.searchsorted(self.images.ids, ids[0].numpy())
        rows = zip(ids[0].tolist(), places.tolist(), distances[0].tolist(), scores, strict=False)
        return [
            Hit(self.images.paths[place], distance, score, number)
            for number, place, distance, score in rows
            if number >= 0 and distance <= farthest
        ]
