"""Encoding of one part of an image collection, by threads that each decode and encode whole batches.

A batch always holds the same images, so that codes do not depend on threads, processes, shards or interruptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.parts import OK, CodeRows, part_path, write_part


class Part(NamedTuple):
    """Images whose codes are stored in one file."""

    number: int
    names: Sequence[str]
    """Relative paths, in order."""


@dataclass(frozen=True)
class PartWork:
    """Settings shared by all parts of an encoding; small, so that they can be sent to other processes.

    Args:
        folder: of the codes, absolute.
        root: absolute folder that names are relative to.
        batch_size: images per forward pass.
        encoder: fingerprint of the encoder.
        reduced: decode large JPEG files at a fraction of their size.
    """

    folder: Path
    root: Path
    batch_size: int
    encoder: str
    reduced: bool = False


class _Batch(NamedTuple):
    codes: np.ndarray
    status: list[str]


class PartEncoder:
    """Encodes parts with its own thread pool; a context manager that shuts the pool down.

    Args:
        encoder: of the images.
        threads: number of threads. Each uses one torch thread, because larger teams would wait for each other.
    """

    def __init__(self, encoder: HashEncoder, threads: int) -> None:
        self._encoder = encoder
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._before)

    def write(self, work: PartWork, part: Part, advance: Callable[[int], None] = lambda images: None) -> None:
        """Encodes a part and writes its file atomically.

        Args:
            work: settings shared by all parts.
            part: to be encoded.
            advance: called with the number of images of each finished batch.
        """
        write_part(part_path(work.folder, part.number), self.encode(work, part.names, advance))

    def encode(
        self, work: PartWork, names: Sequence[str], advance: Callable[[int], None] = lambda images: None
    ) -> CodeRows:
        """Encodes images into rows, in the order of the names.

        Args:
            work: settings shared by all parts.
            names: of the images.
            advance: called with the number of images of each finished batch.
        """

        def batch_from(start: int) -> _Batch:
            batch = self._batch(work, names[start : start + work.batch_size])
            advance(len(batch.status))
            return batch

        batches = list(self._pool.map(batch_from, range(0, len(names), work.batch_size)))
        codes = np.concatenate([batch.codes for batch in batches])
        return CodeRows(list(names), codes, [each for batch in batches for each in batch.status])

    def _batch(self, work: PartWork, names: Sequence[str]) -> _Batch:
        prepared = self._encoder.prepare_each((f"{work.root}/{name}" for name in names), work.reduced)
        pixels = [each for each in prepared if isinstance(each, Tensor)]
        codes = np.zeros((len(names), -(-self._encoder.bits // 8)), np.uint8)
        if pixels:
            codes[[isinstance(each, Tensor) for each in prepared]] = self._encoder.encode_pixels(
                torch.stack(pixels)
            ).codes
        return _Batch(codes, [_reason(work.root, each) if isinstance(each, Exception) else OK for each in prepared])


def _reason(root: Path, error: Exception) -> str:
    """One line on why an image cannot be read, independent of the location of its folder."""
    reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    return reason.replace(f"{root}/", "")
