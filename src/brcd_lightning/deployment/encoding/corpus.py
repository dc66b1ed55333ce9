"""Encoding of many images: threads that decode and encode whole batches, and parts that are kept as they come.

A batch always holds the same images, so that codes do not depend on threads, shards or interruptions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from brcd_lightning.data.image_names import ImageNames
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.parts import (
    OK,
    CodeRows,
    CodesDescription,
    begin,
    digest_of,
    part_path,
    read_part,
    write_part,
)
from brcd_lightning.errors import InputError, require_positive_int
from brcd_lightning.storage.atomic import remove_temporaries


@dataclass(frozen=True)
class EncodeOptions:
    """Options of an encoding.

    Args:
        batch_size: images that the network takes at a time.
        part_size: images a file; a multiple of `batch_size` keeps all batches full.
        threads: each decodes and encodes batches of its own; None for one a processor.
        shard: this process's share (i, n) of the parts: every n-th, from the i-th of 1..n.
        progress: show images a second and the time that is left.

    Raises:
        InputError: for a wrong value.
    """

    batch_size: int = 64
    part_size: int = 4096
    threads: int | None = None
    shard: tuple[int, int] = (1, 1)
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "part_size"):
            require_positive_int(name.replace("_", "-"), getattr(self, name))
        if self.threads is not None:
            require_positive_int("threads", self.threads)
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"a shard must be i/n with 1 <= i <= n, got {self.shard[0]}/{self.shard[1]}.")


class Encoded(NamedTuple):
    """Outcome of an encoding."""

    description: CodesDescription
    images: int
    """That this call encoded."""
    seconds: float
    unreadable: dict[str, str]
    """Reason of each image that could not be read, of this process's share, also from earlier calls."""
    finished: bool
    """True if all parts are there now, those of other shards too."""


def encode_corpus(
    encoder: HashEncoder, images: ImageNames, out: Path, options: EncodeOptions = EncodeOptions()
) -> Encoded:
    """Encodes images into a folder of codes; parts that are there already are kept.

    Args:
        encoder: of the images.
        images: what to encode.
        out: the folder, see `parts`.
        options: how.

    Raises:
        InputError: if the folder holds codes of something else.
    """
    description = CodesDescription(
        bits=encoder.bits,
        encoder=encoder.fingerprint,
        role=encoder.role,
        teacher=encoder.description.teacher,
        root=str(images.root.resolve()),
        names=digest_of(images.names),
        count=len(images.names),
        part_size=options.part_size,
        runtime=encoder.runtime_name,
    )
    begin(out, description)
    first, shards = options.shard
    mine = range(first - 1, description.parts, shards)
    to_do = [number for number in mine if not part_path(out, number).is_file()]
    sizes = {number: len(_of_part(images.names, number, options.part_size)) for number in to_do}
    started = time.perf_counter()
    with _worker_threads(options.threads) as pool, _progress(sum(sizes.values()), options.progress) as advance:
        for number in to_do:
            names = _of_part(images.names, number, options.part_size)
            write_part(part_path(out, number), _encode_part(encoder, images.root, names, options, pool, advance))
    seconds = time.perf_counter() - started
    unreadable: dict[str, str] = {}
    for number in mine:
        rows = read_part(part_path(out, number))
        unreadable |= {name: reason for name, reason in zip(rows.paths, rows.status, strict=True) if reason != OK}
    finished = all(part_path(out, number).is_file() for number in range(description.parts))
    if finished:
        remove_temporaries(out)  # of processes that were killed
    return Encoded(description, sum(sizes.values()), seconds, unreadable, finished)


def _of_part(names: Sequence[str], number: int, part_size: int) -> Sequence[str]:
    return names[number * part_size : (number + 1) * part_size]


def _encode_part(
    encoder: HashEncoder,
    root: Path,
    names: Sequence[str],
    options: EncodeOptions,
    pool: ThreadPoolExecutor,
    advance: Callable[[int], None],
) -> CodeRows:
    """Rows of one part, in the order of its names."""

    def encode(start: int) -> tuple[np.ndarray, list[str]]:
        batch = names[start : start + options.batch_size]
        prepared = [_prepared(encoder, root, name) for name in batch]
        pixels = [each for each in prepared if isinstance(each, Tensor)]
        codes = np.zeros((len(batch), -(-encoder.bits // 8)), np.uint8)
        if pixels:
            codes[[isinstance(each, Tensor) for each in prepared]] = encoder.encode_pixels(torch.stack(pixels)).codes
        advance(len(batch))
        return codes, [OK if isinstance(each, Tensor) else each for each in prepared]

    found = list(pool.map(encode, range(0, len(names), options.batch_size)))
    codes = np.concatenate([codes for codes, _ in found])
    return CodeRows(list(names), codes, [each for _, status in found for each in status])


def _prepared(encoder: HashEncoder, root: Path, name: str) -> Tensor | str:
    """Network input of an image, or the reason why there is none."""
    try:
        return encoder.prepare(root / name)
    except Exception as error:  # PIL's plugins raise many kinds; each means the file is unusable
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        return reason.replace(f"{root}/", "")


@contextmanager
def _worker_threads(threads: int | None) -> Iterator[ThreadPoolExecutor]:
    """Threads that each encode with one thread of torch: teams of several would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        count = threads or len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s")


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar with images a second and the time that is left; gives the function that moves it."""
    columns = (TextColumn("Encoding"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not shown or not total or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("Encoding", total=total)
        yield lambda images: bar.advance(task, images)
