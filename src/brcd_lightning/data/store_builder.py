"""Fills feature stores: every image and view is decoded and transformed once, for all backbones together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from brcd_lightning.data.sampling import random_stream
from brcd_lightning.data.splits import ROLES, Splits
from brcd_lightning.data.transforms import ImageTransforms, PreparedImages
from brcd_lightning.errors import InputError
from brcd_lightning.feature_store import FeatureStore, Part, PartWriter

_FORWARD_ROWS = 128  # measured: the fastest on a CPU


def used_positions(splits: Splits) -> Tensor:
    """Positions (E,) of all images in any role, ascending: the order of evaluation features."""
    return torch.cat([splits.positions(role) for role in ROLES]).unique()


def stored_view(transforms: ImageTransforms, pixels: Tensor, seed: int, index: int, view: int) -> PreparedImages:
    """View number `view` of training image `index`: the same pixels for every backbone, worker and machine."""
    with random_stream(seed, index, view):
        return transforms.prepare_view(pixels)


class PartImages(Dataset[tuple[int, PreparedImages | InputError]]):
    """Images of a part, block by block: (number of the block, its images * views)."""

    def __init__(
        self, splits: Splits, transforms: ImageTransforms, seed: int, part: Part, blocks: Sequence[range]
    ) -> None:
        self._source = splits.source
        self._positions = used_positions(splits) if part.first_view < 0 else splits.train
        self._transforms, self._seed, self._part, self._blocks = transforms, seed, part, blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, number: int) -> tuple[int, PreparedImages | InputError]:
        try:
            return number, default_collate([row for item in self._blocks[number] for row in self._rows(item)])
        except InputError as error:
            return number, error  # raised in the main process: a worker's would arrive wrapped in tracebacks

    def _rows(self, item: int) -> list[PreparedImages]:
        pixels = self._source.load(int(self._positions[item]))
        if self._part.first_view < 0:
            return [self._transforms.prepare(pixels)]
        views = range(self._part.first_view, self._part.first_view + self._part.views)
        return [stored_view(self._transforms, pixels, self._seed, item, view) for view in views]


def fill(
    targets: Sequence[tuple[FeatureStore, nn.Module]],
    splits: Splits,
    transforms: ImageTransforms,
    *,
    views: int,
    seed: int,
    num_workers: int,
    forward: Callable[[Sequence[nn.Module], PreparedImages], list[Tensor]],
    progress: bool = True,
) -> float:
    """Computes what the stores of a job still lack.

    Other jobs that want to build the same wait; a killed build is completed by the next.

    Args:
        targets: stores and their backbones.
        splits: the data set.
        transforms: evaluation and view transform.
        views: per training image.
        seed: of the views.
        num_workers: processes that decode and transform.
        forward: features (M, d) of each backbone for M images, on the device and in the precision wanted.
        progress: show a bar.

    Returns:
        Seconds it took, waiting included.
    """
    started = time.perf_counter()
    targets = list({store.fingerprint: (store, backbone) for store, backbone in targets}.values())
    with ExitStack() as held:
        for store, _ in sorted(targets, key=lambda target: target[0].fingerprint):  # one order: no deadlock
            if store.missing(views):  # a complete store may be read-only
                held.enter_context(store.lock())
        parts = {part for store, _ in targets for part in store.missing(views)}
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        bar = held.enter_context(Progress(*columns, transient=True, disable=not progress or not parts))
        task = bar.add_task("Features", total=sum(part.items * part.views for part in parts))
        for part in sorted(parts, key=lambda part: part.first_view):
            writers = [
                (PartWriter(store, part), backbone) for store, backbone in targets if part in store.missing(views)
            ]
            lacks = [set(writer.todo()) for writer, _ in writers]
            todo = [block for block in part.blocks if any(block in blocks for blocks in lacks)]
            bar.advance(task, (part.items - sum(map(len, todo))) * part.views)
            images = PartImages(splits, transforms, seed, part, todo)
            loader = DataLoader(
                images, batch_size=None, num_workers=min(num_workers, len(todo)), pin_memory=torch.cuda.is_available()
            )
            for number, inputs in loader:
                if isinstance(inputs, InputError):
                    raise inputs
                block = todo[number]
                wanting = [pair for pair, blocks in zip(writers, lacks, strict=True) if block in blocks]
                backbones = [backbone for _, backbone in wanting]
                pieces = zip(inputs.pixels.split(_FORWARD_ROWS), inputs.colours.split(_FORWARD_ROWS), strict=True)
                features = zip(*(forward(backbones, PreparedImages(*piece)) for piece in pieces), strict=True)
                for (writer, _), found in zip(wanting, features, strict=True):
                    writer.write(block, torch.cat(found).view(len(block), part.views, -1))
                bar.advance(task, len(block) * part.views)
            for writer, _ in writers:
                writer.finish()
    return time.perf_counter() - started
