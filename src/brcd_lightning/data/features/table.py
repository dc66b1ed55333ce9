"""Stored features by row.

Shapes: E images, n training images, d features; M rows requested at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.errors import InputError

IN_MEMORY = 1 << 30
"""Bytes up to which features are copied into memory: lookups in many mapped files take longer than a training step."""


class FeatureTable:
    """Features by row.

    Rows 0..E-1 are the images under the evaluation transform, and row E + v n + i is view v of training image i. The
    other kinds follow in the same way, see `first_rows`.

    Args:
        parts: arrays (items, rows, d) of `parts_of`, in order.
        images: E.
        train: n.
    """

    def __init__(self, parts: Sequence[np.ndarray], images: int, train: int) -> None:
        self._parts = [torch.from_numpy(part).flatten(end_dim=1) for part in parts]  # (rows, d), still mapped
        self.images, self.train = images, train
        sizes = torch.tensor([len(part) for part in self._parts])
        self._offsets = sizes.cumsum(dim=0) - sizes
        places = [torch.arange(images)]
        for part, offset in zip(parts[1:], self._offsets[1:].tolist(), strict=True):
            of_part = offset + torch.arange(train * part.shape[1]).view(train, part.shape[1])
            places += list(of_part.T)  # a part stores the rows of one image contiguously
        # For each row, its position in the concatenated parts.
        self._places = torch.cat(places)
        self._whole: Tensor | None = None  # all parts in one tensor, on the device of the last rows

    def __call__(self, rows: Tensor) -> Tensor:
        """Features (M, d) float32 of rows (M,) int64, on the rows' device."""
        if self.rows == self.images and rows.numel() and int(rows.max()) >= self.rows:
            raise InputError("these features were opened without views; ask the view store for some.")
        if self._places.device != rows.device:
            self._places = self._places.to(rows.device)
        places = self._places.index_select(0, rows)
        whole = self._in_one_piece(rows.device)
        if whole is not None:
            return whole.index_select(0, places).float()
        places = places.cpu()
        part_of = torch.searchsorted(self._offsets, places, right=True) - 1
        found = torch.empty(len(rows), self._parts[0].shape[1])
        for number in part_of.unique().tolist():
            chosen = (part_of == number).nonzero()[:, 0]
            found[chosen] = self._parts[number][places[chosen] - self._offsets[number]].float()
        return found.to(rows.device)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._places)

    def _in_one_piece(self, device: torch.device) -> Tensor | None:
        """All features (rows, d) on the device, copied there once; None if they do not fit."""
        if self._whole is None or self._whole.device != device:
            size = sum(part.nbytes for part in self._parts)
            room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else IN_MEMORY
            if size > room:
                return None
            self._whole = torch.cat(self._parts).to(device)
        return self._whole
