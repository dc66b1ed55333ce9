"""Outputs of a network for all images of a split."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import lightning as L
import torch
from rich.progress import track
from torch import Tensor

from brcd_lightning.data.datamodule import HashingDataModule, finished
from brcd_lightning.data.samplers import EpochSampler
from brcd_lightning.metrics import CodeTable


def collect(
    trainer: L.Trainer, module: L.LightningModule, role: str, function: Callable[[Tensor], Tensor], title: str
) -> tuple[Tensor, Tensor]:
    """Applies a function to the images of a role under the evaluation transform, each process to its share.

    Args:
        trainer: trainer in a fit or a validation.
        module: module on its device.
        role: role in the splits, such as ``train``.
        function: maps the inputs of a backbone, M images or rows, to values (M, c).
        title: title of the progress bar.

    Returns:
        Values (n, c) and labels of the whole role in index order, on the CPU of every process.
    """
    table = CodeTable().to(module.device)
    loader = data_of(trainer).eval_dataloader(role)
    for batch in track(loader, title, transient=True, disable=not trainer.is_global_zero):
        batch = trainer.strategy.batch_to_device(batch, module.device)  # noqa: PLW2901
        table.update(batch.index, function(finished(batch.image)), batch.label)
    return table.compute()


def collect_views(
    trainer: L.Trainer, module: L.LightningModule, function: Callable[[Tensor], Tensor], count: int
) -> tuple[Tensor, Tensor]:
    """Applies a function to augmented views of the training images, as in epochs of training.

    An epoch has two views of each image, and leaves out the images of an incomplete last batch.

    Args:
        trainer: trainer in a fit or a validation.
        module: module on its device.
        function: maps the inputs of a backbone, M images or rows, to values (M, c).
        count: number of views of each image.

    Returns:
        Values (r, c) and the positions (r,) of their images in the training split, on the CPU of every process.
    """
    values: list[Tensor] = []
    positions: list[Tensor] = []
    loader = data_of(trainer).training_loader()
    epochs = range((count + 1) // 2)
    for epoch in track(epochs, "Collecting views", transient=True, disable=not trainer.is_global_zero):
        cast(EpochSampler, loader.sampler).set_epoch(epoch)
        tables = [CodeTable().to(module.device) for _ in range(2)]
        for batch in loader:
            batch = trainer.strategy.batch_to_device(batch, module.device)  # noqa: PLW2901
            for table, view in zip(tables, (batch.first, batch.second), strict=True):
                table.update(batch.index, function(finished(view)), batch.index)
        for table in tables[: count - len(values)]:
            found, index = table.compute()
            values.append(found)
            positions.append(index)
    return torch.cat(values), torch.cat(positions)


def data_of(trainer: L.Trainer) -> HashingDataModule:
    """The data module of a running fit or validation."""
    data: HashingDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return data
