"""Encoding of an image collection into resumable parts, by an engine: local threads or worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from brcd_lightning.data.image_names import ImageNames
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.part_encoder import Part, PartEncoder, PartWork
from brcd_lightning.deployment.encoding.parts import OK, CodesDescription, begin, digest_of, part_path, read_part
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, checked
from brcd_lightning.storage.atomic import remove_temporaries


@checked()
@dataclass(frozen=True)
class EncodeOptions:
    """Options of an encoding.

    Args:
        batch_size: images per forward pass.
        part_size: images per file; a multiple of `batch_size` keeps all batches full.
        threads: number of threads, each of which decodes and encodes whole batches; None for one per processor.
        shard: this process's share (i, n) of the parts: every n-th, starting with the i-th, 1 <= i <= n.
        progress: show the rate in images per second and the remaining time.
        reduced_decoding: decode large JPEG files at a fraction of their size, see `HashEncoder.prepare_each`.

    Raises:
        InputError: for an invalid value.
    """

    batch_size: PositiveInt = 64
    part_size: PositiveInt = 4096
    threads: PositiveInt | None = None
    shard: tuple[int, int] = (1, 1)
    progress: bool = True
    reduced_decoding: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"a shard must be i/n with 1 <= i <= n, got {self.shard[0]}/{self.shard[1]}.")


class Encoded(NamedTuple):
    """Outcome of an encoding."""

    description: CodesDescription
    images: int
    """Images encoded by this call."""
    seconds: float
    unreadable: dict[str, str]
    """Reason for each unreadable image in this process's share, including those of earlier calls."""
    finished: bool
    """True if all parts exist now, including those of other shards."""


class Engine(Protocol):
    """Interface of an engine: encodes parts and writes each as soon as it is finished."""

    def __call__(self, work: PartWork, parts: Sequence[Part], advance: Callable[[int], None]) -> None:
        """Encodes the parts, and calls `advance` with the number of images encoded since its last call."""


class ThreadEngine:
    """Engine that encodes in threads of this process.

    Args:
        encoder: of the images.
        threads: number of threads; None for one per processor.
    """

    def __init__(self, encoder: HashEncoder, threads: int | None = None) -> None:
        self._encoder = encoder
        self._threads = threads or len(os.sched_getaffinity(0))

    def __call__(self, work: PartWork, parts: Sequence[Part], advance: Callable[[int], None]) -> None:
        """Encodes one part after another."""
        with PartEncoder(self._encoder, self._threads) as encoder:
            for part in parts:
                encoder.write(work, part, advance)


def encode_corpus(
    encoder: HashEncoder,
    images: ImageNames,
    out: Path,
    options: EncodeOptions = EncodeOptions(),
    engine: Engine | None = None,
) -> Encoded:
    """Encodes images into a folder of codes and keeps parts that already exist.

    Args:
        encoder: of the images.
        images: to be encoded.
        out: the output folder, see `parts`.
        options: of the encoding.
        engine: executes the encoding; threads of this process when None.

    Raises:
        InputError: if the folder holds the codes of another encoding.
    """
    engine = engine or ThreadEngine(encoder, options.threads)
    description = _described(encoder, images, options)
    begin(out, description)
    first, shards = options.shard
    mine = range(first - 1, description.parts, shards)
    to_do = [
        Part(number, images.names[number * options.part_size : (number + 1) * options.part_size])
        for number in mine
        if not part_path(out, number).is_file()
    ]
    count = sum(len(part.names) for part in to_do)
    started = time.perf_counter()
    if to_do:
        terms = options.batch_size, encoder.fingerprint, options.reduced_decoding
        work = PartWork(out.resolve(), Path(description.root), *terms)
        with _progress(count, options.progress) as advance:
            engine(work, to_do, advance)
    seconds = time.perf_counter() - started
    unreadable: dict[str, str] = {}
    for number in mine:
        rows = read_part(part_path(out, number))
        unreadable |= {name: reason for name, reason in zip(rows.paths, rows.status, strict=True) if reason != OK}
    finished = all(part_path(out, number).is_file() for number in range(description.parts))
    if finished:
        remove_temporaries(out)  # of processes that were killed
    return Encoded(description, count, seconds, unreadable, finished)


def _described(encoder: HashEncoder, images: ImageNames, options: EncodeOptions) -> CodesDescription:
    return CodesDescription(
        bits=encoder.bits,
        encoder=encoder.fingerprint,
        role=encoder.role,
        teacher=encoder.description.teacher,
        root=str(images.root.resolve()),
        names=digest_of(images.names),
        count=len(images.names),
        part_size=options.part_size,
        runtime=encoder.runtime_name,
        decoding="reduced" if options.reduced_decoding else "full",
    )


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s")


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar with images per second and the remaining time. Yields the function that advances it."""
    columns = (TextColumn("Encoding"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not shown or not total or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("Encoding", total=total)
        yield lambda images: bar.advance(task, images)
