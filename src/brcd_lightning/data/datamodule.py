"""The DataModule: training batches of anchors and augmented views, evaluation batches of whole splits."""

from __future__ import annotations

from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from brcd_lightning.backbones import Images, Rows
from brcd_lightning.data.extra_views import Extras, class_positive, quarter_turns
from brcd_lightning.data.samplers import EpochSampler, ShardSampler
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import ImageTransforms, MixedImages, PreparedImages
from brcd_lightning.data.workers import block_worker_signals, require_workers
from brcd_lightning.distributed.seeding import random_stream
from brcd_lightning.errors import InputError
from brcd_lightning.options import AnchorView, BatchSize, Seed, Workers, checked


class ViewBatch(NamedTuple):
    """M training images, without labels.

    Images are `PreparedImages` until a loader worker or the device turns them into network input (M, 3, S, S) float32.
    With stored features, every field holds rows (M,) instead.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """(M,) int64 position in the training split."""
    anchor: Images | Rows | PreparedImages | None
    """The image under the evaluation transform (``clean``), or `first` (``aug``; None before it is on the device)."""
    first: Images | Rows | PreparedImages | None
    """One augmentation, see `Extras`."""
    second: Images | Rows | PreparedImages | None
    """Another augmentation; the x' of the paper."""
    rotations: Images | Rows | PreparedImages | None = None
    """(M, 4, ...) views turned by 0, 90, 180 and 270 degrees, see `Extras`."""
    positives: Images | Rows | MixedImages | None = None
    """(M, positives, ...) class positives, see `Extras`."""


class EvalBatch(NamedTuple):
    """M images under the evaluation transform."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """(M,) int64 position in the split."""
    image: Images | Rows | PreparedImages
    """The images or their rows, as in `ViewBatch`."""
    label: Tensor
    """(M,) int64 class, or (M, C) multi-hot."""


def finished(images: Tensor | PreparedImages | MixedImages | None) -> Tensor:
    """Network input of a batch, which must have been finished by a loader worker or on the device.

    Raises:
        TypeError: for images that are not finished yet, or None.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"a batch must be finished first, see on_after_batch_transfer; got {type(images).__name__}.")
    return images


class ViewDataset(Dataset[ViewBatch]):
    """Training images by (epoch, position); the views of an item depend on (seed, epoch, position, view) alone."""

    def __init__(
        self, splits: Splits, transforms: ImageTransforms, anchor_view: str, seed: int, extras: Extras
    ) -> None:
        self.splits = splits
        self.transforms, self._in_workers = transforms, transforms.in_workers()
        self.anchor_view = anchor_view
        self.seed = seed
        self.extras = extras

    def __len__(self) -> int:
        return len(self.splits.train)

    def __getitem__(self, key: tuple[int, int]) -> ViewBatch:
        epoch, index = key
        pixels = self.splits.source.load(int(self.splits.train[index]))
        numbers = (0, 1) if self.extras.views else ()
        first, second = [self._view(self.transforms, pixels, epoch, index, view) for view in numbers] or (None, None)
        anchor = None if self.anchor_view == "aug" else self.transforms.prepare(pixels)
        return ViewBatch(
            torch.tensor(index),
            anchor,
            first,
            second,
            rotations=self._rotations(pixels, epoch, index),
            positives=self._positives(pixels, epoch, index),
        )

    def _rotations(self, pixels: Tensor, epoch: int, index: int) -> PreparedImages | None:
        if self.extras.rotations == "none":
            return None
        apart = self.extras.rotations == "independent"
        views = (self._view(self._in_workers, pixels, epoch, index, 2 + apart * turns) for turns in range(4))
        return default_collate([quarter_turns(view, turns) for turns, view in enumerate(views)])

    def _positives(self, pixels: Tensor, epoch: int, index: int) -> MixedImages | None:
        if not self.extras.positives:
            return None
        drawn = []
        for number in range(self.extras.positives):
            with random_stream(self.seed, epoch, index, number, 1):
                drawn.append(class_positive(self.splits, self._in_workers, index, pixels))
        return default_collate(drawn)

    def _view(self, transforms: ImageTransforms, pixels: Tensor, epoch: int, index: int, view: int) -> PreparedImages:
        with random_stream(self.seed, epoch, index, view):
            return transforms.prepare_view(pixels)


class EvalDataset(Dataset[EvalBatch]):
    """One split under the evaluation transform, in order."""

    def __init__(self, splits: Splits, transforms: ImageTransforms, role: str) -> None:
        self.source = splits.source
        self.positions = splits.positions(role)
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> EvalBatch:
        position = int(self.positions[index])
        pixels = self.source.load(position)
        return EvalBatch(torch.tensor(index), self.transforms.prepare(pixels), self.source.labels[position])


class HashingDataModule(L.LightningDataModule):
    """Loaders of one run.

    Validation and test return the pair (queries, database). Validation queries search the database without themselves;
    test queries search the whole database.

    Args:
        splits: the data set.
        transforms: evaluation and view transform.
        batch_size: training images per step, over all devices together.
        eval_batch_size: images per evaluation batch and device.
        num_workers: loader processes per loader; 0 loads in the main process.
        anchor_view: ``clean`` (the paper's Algorithm 1) or ``aug`` (the paper's release), see `ViewBatch`.
        seed: of order and augmentation.
        extras: further inputs of training batches.
    """

    @checked("data")
    def __init__(
        self,
        splits: Splits,
        transforms: ImageTransforms,
        batch_size: BatchSize = 64,
        eval_batch_size: BatchSize = 256,
        num_workers: Workers = 0,
        anchor_view: AnchorView = "clean",
        seed: Seed = 0,
        extras: Extras = Extras(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        require_workers("data.num_workers", num_workers)
        if anchor_view == "aug" and not extras.views:
            raise ValueError("an augmented anchor is a view; extras must ask for views.")
        if batch_size > len(splits.train):
            raise InputError(
                f"data.batch_size must be at most the number of training images, got {batch_size} for "
                f"{len(splits.train)} images."
            )
        self.splits = splits
        self.transforms = transforms
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.anchor_view = anchor_view
        self.seed = seed
        self.extras = extras
        self._epoch, self._steps_seen = 0, 0  # start of the first pass over the training images

    def state_dict(self) -> dict[str, int]:
        """Training progress; after the last step of an epoch, this is the start of the next one."""
        if self.trainer is None:
            raise RuntimeError("the data module has no trainer, whose progress it could save.")
        steps = self.trainer.fit_loop.epoch_loop.batch_progress.current.completed
        epochs, steps = divmod(steps, int(self.trainer.num_training_batches))
        return {"epoch": self.trainer.current_epoch + epochs, "steps": steps}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continues from saved progress, see `state_dict`."""
        self._epoch, self._steps_seen = state_dict["epoch"], state_dict["steps"]

    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch; the last incomplete batch is dropped."""
        return len(self.splits.train) // self.batch_size

    def train_dataset(self) -> Dataset[ViewBatch]:
        """Training images by (epoch, position)."""
        return ViewDataset(self.splits, self._for_device(), self.anchor_view, self.seed, self.extras)

    def eval_dataset(self, role: str) -> Dataset[EvalBatch]:
        """One split under the evaluation transform, in order."""
        return EvalDataset(self.splits, self._for_device(), role)

    def collate(self, items: list[ViewBatch] | list[EvalBatch]) -> ViewBatch | EvalBatch:
        """Collates items of a dataset; on a CPU, the loader worker also finishes the batch."""
        kind: type[ViewBatch] | type[EvalBatch] = type(items[0])
        columns = zip(*items, strict=True)
        batch = kind._make(None if column[0] is None else default_collate(list(column)) for column in columns)
        return self.on_after_batch_transfer(batch) if self._device().type == "cpu" else batch

    def on_after_batch_transfer(self, batch: ViewBatch | EvalBatch, dataloader_idx: int = 0) -> ViewBatch | EvalBatch:
        """Crops and colors on the device the images that loader workers prepared; a finished batch is unchanged."""
        ready = {
            name: self.transforms.finish(value)
            for name, value in batch._asdict().items()
            if isinstance(value, PreparedImages | MixedImages)
        }
        batch = batch._replace(**ready)
        if isinstance(batch, ViewBatch) and batch.anchor is None:
            batch = batch._replace(anchor=batch.first)
        return batch

    def train_dataloader(self) -> DataLoader:
        """Batches of `ViewBatch`, starting where training continues."""
        return self.training_loader(self._epoch, self._steps_seen)

    def training_loader(self, epoch: int = 0, steps_seen: int = 0) -> DataLoader:
        """Batches of `ViewBatch` of an epoch; its views are the same at any point of a run.

        Args:
            epoch: of the first pass; later passes set theirs through the sampler.
            steps_seen: batches that the first pass skips.
        """
        rank, world_size = self._place()
        if self.batch_size % world_size:
            raise InputError(f"data.batch_size must be a multiple of the {world_size} devices, got {self.batch_size}.")
        batch_size = self.batch_size // world_size
        return DataLoader(
            self.train_dataset(),
            collate_fn=self.collate,
            batch_size=batch_size,
            sampler=EpochSampler(len(self.splits.train), self.seed, rank, world_size, epoch, steps_seen * batch_size),
            drop_last=True,
            num_workers=self.num_workers,
            worker_init_fn=block_worker_signals,
            generator=torch.Generator(),  # otherwise every pass would draw from the random stream of the objectives
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def eval_dataloader(self, role: str) -> DataLoader:
        """Batches of `EvalBatch` over this rank's share of one split."""
        return DataLoader(
            self.eval_dataset(role),
            collate_fn=self.collate,
            batch_size=self.eval_batch_size,
            sampler=ShardSampler(len(self.splits.positions(role)), *self._place()),
            num_workers=self.num_workers,
            worker_init_fn=block_worker_signals,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> list[DataLoader]:
        """Validation queries and their database."""
        return [self.eval_dataloader("val_query"), self.eval_dataloader("val_database")]

    def test_dataloader(self) -> list[DataLoader]:
        """Test queries and the database."""
        return [self.eval_dataloader("query"), self.eval_dataloader("database")]

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _for_device(self) -> ImageTransforms:
        return self.transforms.for_device(self._device(), self.splits.source.one_size)
