"""Fills feature stores: every image and view is decoded and transformed once for all backbones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from brcd_lightning.backbones import Backbone
from brcd_lightning.data.extra_views import class_positive, quarter_turns
from brcd_lightning.data.features.layout import TURNS, Part, parts_of
from brcd_lightning.data.features.store import FeatureStore, PartWriter
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import ImageTransforms, MixedImages, PreparedImages
from brcd_lightning.data.workers import block_worker_signals
from brcd_lightning.distributed.seeding import random_stream
from brcd_lightning.errors import InputError

ForwardPass: TypeAlias = Callable[[Sequence[Backbone], PreparedImages | MixedImages], list[Tensor]]
"""Features (M, d) of each backbone for M images."""
_FORWARD_ROWS = 128  # fastest on a CPU, as measured


@dataclass(frozen=True)
class TransformedSplits:
    """The images whose features are stored."""

    splits: Splits
    """The data set."""
    transforms: ImageTransforms
    """Evaluation and view transform."""

    def for_device(self, device: torch.device) -> TransformedSplits:
        """The same images, see `ImageTransforms.for_device`."""
        return replace(self, transforms=self.transforms.for_device(device, self.splits.source.one_size))


def stored_view(transforms: ImageTransforms, pixels: Tensor, seed: int, index: int, view: int) -> PreparedImages:
    """View number `view` of training image `index`, identical for every backbone, worker and machine."""
    with random_stream(seed, index, view):
        return transforms.prepare_view(pixels)


class PartImages(Dataset[tuple[int, PreparedImages | MixedImages | InputError]]):
    """Images of a part, block by block: (number of the block, its images * rows)."""

    def __init__(self, images: TransformedSplits, seed: int, part: Part, blocks: Sequence[range]) -> None:
        self._splits, self._transforms = images.splits, images.transforms
        self._in_workers = images.transforms.in_workers()
        self._positions = self._splits.used if part.kind == "evaluation" else self._splits.train
        self._seed, self._part, self._blocks = seed, part, blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, number: int) -> tuple[int, PreparedImages | MixedImages | InputError]:
        try:
            return number, default_collate([row for item in self._blocks[number] for row in self._rows(item)])
        except InputError as error:
            return number, error  # raised in the main process; from a worker it would arrive wrapped in tracebacks

    def _rows(self, item: int) -> list[PreparedImages | MixedImages]:
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
                view = stored_view(self._in_workers, pixels, self._seed, item, number // TURNS)
                return quarter_turns(view, number % TURNS + 1)
            case "positives":
                with random_stream(self._seed, item, number, 1):
                    return class_positive(self._splits, self._in_workers, item, pixels)
            case kind:
                raise ValueError(f"no part of a store is of kind {kind!r}.")


def fill(
    targets: Sequence[tuple[FeatureStore, Backbone]],
    images: TransformedSplits,
    *,
    amounts: Mapping[str, int],
    seed: int,
    num_workers: int,
    forward: ForwardPass,
    progress: bool = True,
) -> float:
    """Computes the features that are missing from the stores of a job.

    Other jobs that need the same features wait. The next job completes a killed build.

    Args:
        targets: stores and their backbones.
        images: data set and transforms.
        amounts: rows per training image, by kind.
        seed: of the views.
        num_workers: processes that decode and transform.
        forward: computes the features of each backbone, on its device and in its precision.
        progress: show a progress bar.

    Returns:
        Elapsed seconds, including the time spent waiting.
    """
    started = time.perf_counter()
    distinct = {store.fingerprint: (store, backbone) for store, backbone in targets}
    with _locked([store for store, _ in distinct.values()], amounts):
        parts = _missing_parts([store for store, _ in distinct.values()], amounts)
        with _progress_bar(sum(part.items * part.rows for part in parts), progress) as advance:
            for part in parts:
                outputs = [_Output.of(*pair, part) for pair in distinct.values() if part in pair[0].missing(amounts)]
                todo = [block for block in part.blocks if any(block in output.todo for output in outputs)]
                advance((part.items - sum(map(len, todo))) * part.rows)  # finished by a killed build
                loader = _loader(PartImages(images, seed, part, todo), num_workers)
                for number, inputs in loader:
                    if isinstance(inputs, InputError):
                        raise inputs
                    _write_block(todo[number], inputs, outputs, forward)
                    advance(len(todo[number]) * part.rows)
                for output in outputs:
                    output.writer.finish()
    return time.perf_counter() - started


@dataclass(frozen=True)
class _Output:
    """A store that lacks blocks of a part."""

    writer: PartWriter
    backbone: Backbone
    todo: frozenset[range]

    @classmethod
    def of(cls, store: FeatureStore, backbone: Backbone, part: Part) -> _Output:
        writer = PartWriter(store, part)
        return cls(writer, backbone, frozenset(writer.todo()))


@contextmanager
def _locked(stores: Sequence[FeatureStore], amounts: Mapping[str, int]) -> Iterator[None]:
    """Holds the locks of all incomplete stores; a complete store may be read-only."""
    with ExitStack() as held:
        for store in sorted(stores, key=lambda store: store.fingerprint):  # one order avoids deadlocks
            if store.missing(amounts):
                held.enter_context(store.lock())
        yield


def _missing_parts(stores: Sequence[FeatureStore], amounts: Mapping[str, int]) -> list[Part]:
    """Parts that any of the stores lacks, in order; all stores are of the same images."""
    missing = {part for store in stores for part in store.missing(amounts)}
    return [part for part in parts_of(stores[0].images, stores[0].train, amounts) if part in missing]


@contextmanager
def _progress_bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that advances the bar by a number of rows out of `total`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not shown or not total) as bar:
        task = bar.add_task("Features", total=total)
        yield lambda rows: bar.advance(task, rows)


def _loader(images: PartImages, num_workers: int) -> DataLoader:
    return DataLoader(
        images,
        batch_size=None,
        num_workers=min(num_workers, len(images)),
        worker_init_fn=block_worker_signals,
        pin_memory=torch.cuda.is_available(),
    )


def _write_block(
    block: range, inputs: PreparedImages | MixedImages, outputs: Sequence[_Output], forward: ForwardPass
) -> None:
    """Computes the features of a block of images and writes them to the stores that lack it."""
    lacking = [output for output in outputs if block in output.todo]
    backbones = [output.backbone for output in lacking]
    pieces = zip(*(tensor.split(_FORWARD_ROWS) for tensor in inputs), strict=True)
    features = zip(*(forward(backbones, type(inputs)(*piece)) for piece in pieces), strict=True)
    for output, found in zip(lacking, features, strict=True):
        output.writer.write(block, torch.cat(found).view(len(block), output.writer.part.rows, -1))
