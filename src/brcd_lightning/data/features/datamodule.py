"""The DataModule over stored features: the same batches, with rows of a feature store instead of images.

The networks that read them have a `StoredBackbone`, so modules, callbacks and methods need no changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from brcd_lightning.data.datamodule import EvalBatch, HashingDataModule, ViewBatch
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.data.features.layout import KINDS, TURNS, first_rows
from brcd_lightning.data.splits import Splits
from brcd_lightning.distributed.seeding import stream_seed
from brcd_lightning.options import BatchSize, checked


class StoredViews(Dataset[ViewBatch]):
    """Training batches by (epoch, position).

    Two views of each image are drawn per epoch, without replacement until all views are used, then in a new order.
    Rotations and positives are drawn in the same way.
    """

    def __init__(self, splits: Splits, anchor_view: str, seed: int, amounts: Mapping[str, int], extras: Extras) -> None:
        self._clean = evaluation_rows(splits, splits.train)
        self._first_rows = first_rows(len(splits.used), len(splits.train), amounts)
        self._anchor_view, self._seed, self._amounts, self._extras = anchor_view, seed, dict(amounts), extras
        self._orders: dict[str, tuple[int, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._clean)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> ViewBatch:
        index = torch.tensor([position for _, position in keys])
        epoch = keys[0][0]
        first, second = self._views(epoch, index)
        anchor = first if self._anchor_view == "aug" else self._clean[index]
        return ViewBatch(
            index,
            anchor,
            first,
            second,
            rotations=self._rotations(epoch, index),
            positives=self._positives(epoch, index),
        )

    def _views(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Rows (M,) of two views."""
        if not self._extras.views:
            return None, None
        first, second = self._rows("views", self._draw("views", epoch, self._amounts["views"], 2, index), index).T
        return first, second

    def _rotations(self, epoch: int, index: Tensor) -> Tensor | None:
        """Rows (M, 4): the view itself, then its rotations by 90, 180 and 270 degrees."""
        if self._extras.rotations == "none":
            return None
        apart = self._extras.rotations == "independent"
        views = self._draw("rotations", epoch, self._amounts["rotations"] // TURNS, 4 if apart else 1, index)
        views = views.expand(-1, 4)
        upright = self._rows("views", views[:, :1], index)
        return torch.cat([upright, self._rows("rotations", TURNS * views[:, 1:] + torch.arange(TURNS), index)], dim=1)

    def _positives(self, epoch: int, index: Tensor) -> Tensor | None:
        """Rows (M, positives)."""
        if not self._extras.positives:
            return None
        drawn = self._draw("positives", epoch, self._amounts["positives"], self._extras.positives, index)
        return self._rows("positives", drawn, index)

    def _rows(self, kind: str, numbers: Tensor, index: Tensor) -> Tensor:
        """Rows (M, c) of the store for numbers (M, c) of a kind and training images at index (M,)."""
        return self._first_rows[kind] + numbers * len(self) + index[:, None]

    def _draw(self, kind: str, epoch: int, total: int, count: int, index: Tensor) -> Tensor:
        """Draws numbers below `total` for the images at index in this epoch, (M, count), without repeats in a cycle."""
        per_cycle = max(1, total // count)
        cycle, turn = divmod(epoch, per_cycle)
        if self._orders.get(kind, (-1, None))[0] != cycle:
            seed = stream_seed(self._seed, cycle, total, KINDS.index(kind))
            generator = torch.Generator().manual_seed(seed)
            self._orders[kind] = cycle, torch.rand(len(self), total, generator=generator).argsort(dim=1)
        places = (count * turn + torch.arange(count)) % total
        return self._orders[kind][1][index][:, places]


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
    """Loaders over stored features.

    They use no worker processes, regardless of ``data.num_workers``: nothing has to be decoded, and a lookup takes less
    time than passing its result between processes.

    Args:
        online: the image loaders to replace, which provide splits, batch size, anchors, seed and extras.
        amounts: stored rows per training image, by kind.
        eval_batch_size: rows per evaluation batch and device.
    """

    @checked("view_store")
    def __init__(
        self, online: HashingDataModule, amounts: Mapping[str, int], eval_batch_size: BatchSize = 4096
    ) -> None:
        super().__init__(
            online.splits,
            online.transforms,
            batch_size=online.batch_size,
            eval_batch_size=eval_batch_size,
            anchor_view=online.anchor_view,
            seed=online.seed,
            extras=online.extras,
        )
        self.amounts = amounts

    def train_dataset(self) -> StoredViews:
        """See `StoredViews`."""
        return StoredViews(self.splits, self.anchor_view, self.seed, self.amounts, self.extras)

    def eval_dataset(self, role: str) -> StoredImages:
        """See `StoredImages`."""
        return StoredImages(self.splits, role)

    def collate(self, items: ViewBatch | EvalBatch | list[ViewBatch] | list[EvalBatch]) -> ViewBatch | EvalBatch:
        """Returns a whole batch from a dataset unchanged."""
        return items if isinstance(items, ViewBatch | EvalBatch) else super().collate(items)


def evaluation_rows(splits: Splits, positions: Tensor) -> Tensor:
    """Rows (n,) of the evaluation features of images at `positions` (n,)."""
    return torch.searchsorted(splits.used, positions)
