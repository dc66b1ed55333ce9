"""Encoding of many images into parts that are kept as they come, by an engine: threads here, or processes elsewhere."""

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
        batch_size: images that the network takes at a time.
        part_size: images a file; a multiple of `batch_size` keeps all batches full.
        threads: each decodes and encodes batches of its own; None for one a processor.
        shard: this process's share (i, n) of the parts: every n-th, from the i-th of 1..n.
        progress: show images a second and the time that is left.
        reduced_decoding: decode large JPEG files at a fraction of their size, see `HashEncoder.prepare_each`.

    Raises:
        InputError: for a wrong value.
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
    """That this call encoded."""
    seconds: float
    unreadable: dict[str, str]
    """Reason of each image that could not be read, of this process's share, also from earlier calls."""
    finished: bool
    """True if all parts are there now, those of other shards too."""


class Engine(Protocol):
    """Encodes parts and writes each as soon as it is done."""

    def __call__(self, work: PartWork, parts: Sequence[Part], advance: Callable[[int], None]) -> None:
        """Encodes the parts; `advance` is told how many images have been encoded since it was last called."""


class ThreadEngine:
    """Threads of this process.

    Args:
        encoder: of the images.
        threads: None for one a processor.
    """

    def __init__(self, encoder: HashEncoder, threads: int | None = None) -> None:
        self._encoder = encoder
        self._threads = threads or len(os.sched_getaffinity(0))

    def __call__(self, work: PartWork, parts: Sequence[Part], advance: Callable[[int], None]) -> None:
        """Encodes one part after the other."""
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
    """Encodes images into a folder of codes; parts that are there already are kept.

    Args:
        encoder: of the images.
        images: what to encode.
        out: the folder, see `parts`.
        options: how.
        engine: does the work; threads of this process when None.

    Raises:
        InputError: if the folder holds codes of something else.
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
