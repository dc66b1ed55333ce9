"""The DataModule over stored features: the same batches, with row numbers of a feature store where images would be.

A fully frozen backbone looks its features up by these rows (`Backbone.features`), so modules, callbacks and methods
do not know the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from brcd_lightning.data.datamodule import EvalBatch, HashingDataModule, ViewBatch
from brcd_lightning.data.sampling import stream_seed
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.store_builder import used_positions


class StoredViews(Dataset[ViewBatch]):
    """Training batches by (epoch, position).

    Each image shows two views per epoch, drawn without replacement until all are used up, then in a new order.
    """

    def __init__(self, splits: Splits, anchor_view: str, seed: int, views: int) -> None:
        self._clean = evaluation_rows(splits, splits.train)
        self._images = len(used_positions(splits))
        self._anchor_view, self._seed, self._views = anchor_view, seed, views
        self._cycle = -1
        self._order = torch.empty(0)

    def __len__(self) -> int:
        return len(self._clean)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> ViewBatch:
        index = torch.tensor([position for _, position in keys])
        epoch = keys[0][0]
        pairs = max(1, self._views // 2)
        order = self._order_of(epoch // pairs)[index]
        place = 2 * (epoch % pairs)
        views = (order[:, place], order[:, (place + 1) % self._views])
        first, second = (self._images + view * len(self) + index for view in views)
        return ViewBatch(index, first if self._anchor_view == "aug" else self._clean[index], first, second)

    def _order_of(self, cycle: int) -> Tensor:
        """A permutation of the views of every image (n, V)."""
        if cycle != self._cycle:
            generator = torch.Generator().manual_seed(stream_seed(self._seed, cycle, self._views))
            self._order = torch.rand(len(self), self._views, generator=generator).argsort(dim=1)
            self._cycle = cycle
        return self._order


class StoredImages(Dataset[EvalBatch]):
    """One split under the evaluation transform, in order."""

    def __init__(self, splits: Splits, role: str) -> None:
        self._rows = evaluation_rows(splits, splits.positions(role))
        self._labels = splits.labels(role)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> EvalBatch:
        index = torch.tensor(indices)
        return EvalBatch(index, self._rows[index], self._labels[index])


class StoredDataModule(HashingDataModule):
    """Loaders over stored features; no decoding and no worker processes.

    Args:
        views: stored views per training image.
        **options: of `HashingDataModule`.
    """

    def __init__(self, *, views: int, **options: object) -> None:
        super().__init__(**options)
        self.views = views
        self.num_workers = 0
        self.eval_batch_size = 4096  # rows are small

    def train_dataset(self) -> StoredViews:
        """See `StoredViews`."""
        return StoredViews(self.splits, self.anchor_view, self.seed, self.views)

    def eval_dataset(self, role: str) -> StoredImages:
        """See `StoredImages`."""
        return StoredImages(self.splits, role)

    def collate(self, batch: ViewBatch | EvalBatch) -> ViewBatch | EvalBatch:
        """The datasets give whole batches."""
        return batch


def evaluation_rows(splits: Splits, positions: Tensor) -> Tensor:
    """Rows (n,) of the evaluation features of images at `positions` (n,)."""
    return torch.searchsorted(used_positions(splits), positions)
