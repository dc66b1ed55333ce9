"""Fills feature stores: every image and view is decoded and transformed once, for all backbones together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from brcd_lightning.data.extras import class_positive, quarter_turns
from brcd_lightning.data.features.layout import TURNS, Part, parts_of
from brcd_lightning.data.features.store import FeatureStore, PartWriter
from brcd_lightning.data.sampling import random_stream
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import ImageTransforms, MixedImages, PreparedImages
from brcd_lightning.data.workers import serve
from brcd_lightning.errors import InputError

_FORWARD_ROWS = 128  # measured: the fastest on a CPU


def stored_view(transforms: ImageTransforms, pixels: Tensor, seed: int, index: int, view: int) -> PreparedImages:
    """View number `view` of training image `index`: the same pixels for every backbone, worker and machine."""
    with random_stream(seed, index, view):
        return transforms.prepare_view(pixels)


class PartImages(Dataset[tuple[int, PreparedImages | MixedImages | InputError]]):
    """Images of a part, block by block: (number of the block, its images * rows)."""

    def __init__(
        self, splits: Splits, transforms: ImageTransforms, seed: int, part: Part, blocks: Sequence[range]
    ) -> None:
        self._splits = splits
        self._positions = splits.used if part.kind == "evaluation" else splits.train
        self._transforms, self._seed, self._part, self._blocks = transforms, seed, part, blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, number: int) -> tuple[int, PreparedImages | MixedImages | InputError]:
        try:
            return number, default_collate([row for item in self._blocks[number] for row in self._rows(item)])
        except InputError as error:
            return number, error  # raised in the main process: a worker's would arrive wrapped in tracebacks

    def _rows(self, item: int) -> list[PreparedImages] | list[MixedImages]:
        pixels = self._splits.source.load(int(self._positions[item]))
        numbers = range(self._part.first, self._part.first + self._part.rows)
        return [self._row(item, number, pixels) for number in numbers]

    def _row(self, item: int, number: int, pixels: Tensor) -> PreparedImages | MixedImages:
        match self._part.kind:
            case "evaluation":
                return self._transforms.prepare(pixels)
            case "views":
                return stored_view(self._transforms, pixels, self._seed, item, number)
            case "rotations":
                view = stored_view(self._transforms, pixels, self._seed, item, number // TURNS)
                return quarter_turns(view, number % TURNS + 1)
            case "positives":
                with random_stream(self._seed, item, number, 1):
                    return class_positive(self._splits, self._transforms, item, pixels)


def fill(
    targets: Sequence[tuple[FeatureStore, nn.Module]],
    splits: Splits,
    transforms: ImageTransforms,
    *,
    amounts: Mapping[str, int],
    seed: int,
    num_workers: int,
    forward: Callable[[Sequence[nn.Module], PreparedImages | MixedImages], list[Tensor]],
    progress: bool = True,
) -> float:
    """Computes what the stores of a job still lack.

    Other jobs that want to build the same wait; a killed build is completed by the next.

    Args:
        targets: stores and their backbones.
        splits: the data set.
        transforms: evaluation and view transform.
        amounts: rows per training image, by kind.
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
            if store.missing(amounts):  # a complete store may be read-only
                held.enter_context(store.lock())
        parts = {part for store, _ in targets for part in store.missing(amounts)}
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        bar = held.enter_context(Progress(*columns, transient=True, disable=not progress or not parts))
        task = bar.add_task("Features", total=sum(part.items * part.rows for part in parts))
        for part in (part for part in parts_of(store.images, store.train, amounts) if part in parts):
            writers = [
                (PartWriter(store, part), backbone) for store, backbone in targets if part in store.missing(amounts)
            ]
            lacks = [set(writer.todo()) for writer, _ in writers]
            todo = [block for block in part.blocks if any(block in blocks for blocks in lacks)]
            bar.advance(task, (part.items - sum(map(len, todo))) * part.rows)
            images = PartImages(splits, transforms, seed, part, todo)
            loader = DataLoader(
                images,
                batch_size=None,
                num_workers=min(num_workers, len(todo)),
                worker_init_fn=serve,
                pin_memory=torch.cuda.is_available(),
            )
            for number, inputs in loader:
                if isinstance(inputs, InputError):
                    raise inputs
                block = todo[number]
                wanting = [pair for pair, blocks in zip(writers, lacks, strict=True) if block in blocks]
                backbones = [backbone for _, backbone in wanting]
                pieces = zip(*(tensor.split(_FORWARD_ROWS) for tensor in inputs), strict=True)
                features = zip(*(forward(backbones, type(inputs)(*piece)) for piece in pieces), strict=True)
                for (writer, _), found in zip(wanting, features, strict=True):
                    writer.write(block, torch.cat(found).view(len(block), part.rows, -1))
                bar.advance(task, len(block) * part.rows)
            for writer, _ in writers:
                writer.finish()
    return time.perf_counter() - started
