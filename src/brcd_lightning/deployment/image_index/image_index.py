"""`ImageIndex`: opening and searching an index of image files. `changes` builds and modifies one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.image_index.bundle import (
    MODEL,
    Images,
    Manifest,
    codes_path,
    images_path,
    read_images,
    read_manifest,
)
from brcd_lightning.deployment.image_index.searched import Hit, Ranked, SearchedImages
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex, RescoredResult, SearchResult


class ImageIndex(SearchedImages):
    """An index of image files. Create one with `changes.build_index`, and open it with `open`.

    Args:
        folder: of the index, see `bundle`.
        manifest: description of the content.
        index: of the codes.
        images: ids, paths and codes.
    """

    def __init__(self, folder: Path, manifest: Manifest, index: HammingIndex, images: Images) -> None:
        super().__init__(str(folder), manifest)
        self.folder, self.manifest, self.index, self.images = folder, manifest, index, images

    @classmethod
    def open(cls, folder: Path, *, mmap: bool = True) -> Self:
        """Opens an index.

        Args:
            folder: of the index.
            mmap: map the codes into memory instead of reading them; such an index is read-only.

        Raises:
            InputError: if the folder is not an image index, or is damaged.
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
        """Loads the query encoder: the student stored in the index, or another compatible model.

        Args:
            model: source, see `HashEncoder.from_pretrained`; None for the model of the index.

        Raises:
            InputError: if the codes of the model live in another Hamming space.
        """
        if model is None:
            return HashEncoder.from_pretrained(self.folder / MODEL)
        encoder = HashEncoder.from_pretrained(model)
        self.check(encoder)
        return encoder

    def database_encoder(self) -> HashEncoder:
        """Loads the encoder of the images of this index."""
        return HashEncoder.from_pretrained(self.folder / MODEL, role=self.manifest.role)

    def ranked(self, codes: torch.Tensor, k: int, rescore: torch.Tensor | None = None) -> Ranked:
        """See `SearchedImages.ranked`."""
        k = min(k, max(1, len(self)))
        found: SearchResult | RescoredResult
        scores: Sequence[float | None] = [None] * k
        if rescore is None:
            found = self.index.search(codes, k)
        else:
            found = self.index.search(codes, k, rescore=rescore)
            scores = found.scores[0].tolist()
        places = np.searchsorted(self.images.ids, found.ids[0].numpy())
        rows = zip(found.ids[0].tolist(), places.tolist(), found.distances[0].tolist(), scores, strict=False)
        hits = [
            Hit(self.images.paths[place], distance, score, number)
            for number, place, distance, score in rows
            if number >= 0
        ]
        return Ranked(hits, found.empty_slots)

    def search_codes(self, codes: torch.Tensor, k: int) -> SearchResult:
        """See `SearchedImages.search_codes`."""
        return self.index.search(codes, k)

    def packed_codes(self) -> np.ndarray:
        """See `SearchedImages.packed_codes`."""
        return self.images.codes
