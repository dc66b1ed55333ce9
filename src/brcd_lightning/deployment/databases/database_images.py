"""`DatabaseImages`: a database table with the search interface of an image index.

Shapes: n rows, B bytes a packed code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.deployment.databases.database import CodeDatabase
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.image_index.searched import Hit, Ranked, SearchedImages
from brcd_lightning.errors import InputError
from brcd_lightning.search import SearchResult
from brcd_lightning.search.exact import as_bytes
from brcd_lightning.search.rescoring import CANDIDATES_PER_RESULT, rescore_candidates
from brcd_lightning.search.values import as_values


class DatabaseImages(SearchedImages):
    """Images whose codes are stored in a database.

    Args:
        database: an open table.
    """

    def __init__(self, database: CodeDatabase) -> None:
        super().__init__(database.place, database.description)
        self.database = database

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()

    def query_encoder(self, model: str | Path | None = None) -> HashEncoder:
        """Loads the query encoder, which a database does not store.

        Args:
            model: source, see `HashEncoder.from_pretrained`.

        Raises:
            InputError: if no model is given, or its codes live in another Hamming space.
        """
        if model is None:
            raise InputError(
                f"{self.database.place} holds codes and no model; give the model of the queries by --model."
            )
        encoder = HashEncoder.from_pretrained(model)
        self.check(encoder)
        return encoder

    def ranked(self, codes: Tensor, k: int, rescore: Tensor | None = None) -> Ranked:
        """See `SearchedImages.ranked`."""
        (code,) = as_bytes(codes, self.bits, "queries")
        k = min(k, len(self))
        if rescore is None:
            found, scores = self.database.nearest(code, k), [None] * k
            places: Sequence[int] = range(len(found.ids))
        else:
            candidates = min(CANDIDATES_PER_RESULT * k, len(self))
            found = self.database.nearest(code, candidates, with_codes=True)
            rows = np.arange(len(found.ids))
            best, order = rescore_candidates(
                as_values(rescore, self.bits, "rescore"), found.codes, rows[None], min(k, len(rows))
            )
            scores, places = best[0].tolist(), order[0].tolist()
        ids, distances = found.ids.tolist(), found.distances.tolist()
        hits = [
            Hit(found.paths[place], distances[place], score, ids[place])
            for place, score in zip(places, scores, strict=False)
        ]
        return Ranked(hits, k - len(hits))

    def search_codes(self, codes: Tensor, k: int) -> SearchResult:
        """See `SearchedImages.search_codes`."""
        found = self.database.nearest(as_bytes(codes, self.bits, "queries")[0], k)
        distances, ids = np.full((1, k), self.bits + 1, np.int32), np.full((1, k), -1, np.int64)
        distances[0, : len(found.ids)], ids[0, : len(found.ids)] = found.distances, found.ids
        return SearchResult(torch.from_numpy(distances), torch.from_numpy(ids))

    def packed_codes(self) -> np.ndarray:
        """See `SearchedImages.packed_codes`.

        Raises:
            InputError: if rows were added or removed by another program.
        """
        codes = np.concatenate([np.empty((0, -(-self.bits // 8)), np.uint8), *self.database.codes()])
        if len(codes) != len(self):
            raise InputError(
                f"{self.database.place} holds {len(codes):,} rows, {len(self):,} were pushed; push the codes again "
                "with --replace."
            )
        return codes
