"""Comparison of exported encoders with their network: bits, neighbours and time, measured in one run."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.codes import pack, sign
from brcd_lightning.data.image_names import ImageNames
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.export.onnx_runtime import OnnxRuntime
from brcd_lightning.distributed.threads import single_thread
from brcd_lightning.errors import InputError
from brcd_lightning.search import nearest_codes
from brcd_lightning.storage.atomic import write_text

NEAR_ZERO = 1e-4
"""Logits closer to 0 than this may change sign, because summation in another order differs by about that much."""
BATCHES = (1, 64)
_ROUNDS = {1: 200, 64: 20}
_LEAST = 2  # images: a query and a database
_QUERY_EVERY, _MOST_QUERIES = 5, 2000
_WORTH_SPEED, _WORTH_NEIGHBOURS = 1.1, 0.95
"""Smallest worthwhile speed-up of int8 over float32 at any batch size, and smallest `Agreement.neighbours_near`."""


@dataclass(frozen=True)
class Latency:
    """Latency of one batch on one thread, in milliseconds."""

    batch: int
    p50: float
    p95: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of an exported file with the network.

    Args:
        precision: of the file.
        bits: number of bits compared, over all images.
        flipped: number of bits that differ.
        flipped_near_zero: number of flipped bits whose logit is within `NEAR_ZERO` of 0.
        largest_flipped_logit: largest absolute logit of a flipped bit; 0 if no bit differs.
        k: neighbours of each query.
        neighbours_kept: share of the network's k nearest that the file's query code finds among the network's codes.
        neighbours_near: share of the found codes that are no farther from the network's query code than its k-th
            nearest. Because distances tie, the k nearest are not unique.
        latency: by batch size.
    """

    precision: str
    bits: int
    flipped: int
    flipped_near_zero: int
    largest_flipped_logit: float
    k: int
    neighbours_kept: float
    neighbours_near: float
    latency: tuple[Latency, ...]


@dataclass(frozen=True)
class ParityReport:
    """Comparison of all exported files of one encoder with its network.

    Args:
        fingerprint: of the encoder.
        images: number of images compared.
        source: description of the images.
        torch_latency: of the network, by batch size.
        files: agreement of each exported file.
    """

    fingerprint: str
    images: int
    source: str
    torch_latency: tuple[Latency, ...]
    files: tuple[Agreement, ...]


@dataclass(frozen=True)
class ImagesToCompare:
    """Images for a comparison.

    Args:
        source: description for readers.
        count: number of images.
        load: returns the network input (3, S, S) uint8 at a position, or None if the image cannot be read.
    """

    source: str
    count: int
    load: Callable[[int], Tensor | None]

    def batches(self, size: int = 64, most: int | None = None) -> Iterator[Tensor]:
        """Yields batches (M, 3, S, S) uint8 of all readable images, or of at most `most` evenly spaced ones."""
        kept = evenly(range(self.count), most or self.count)
        for start in range(0, len(kept), size):
            loaded = [self.load(position) for position in kept[start : start + size]]
            if pixels := [each for each in loaded if each is not None]:
                yield torch.stack(pixels)


def evenly(items: Sequence[int], most: int) -> list[int]:
    """Returns at most `most` of the items, evenly spaced, because a sorted folder begins with a single class."""
    if len(items) <= most:
        return list(items)
    return [items[position * len(items) // most] for position in range(most)]


def random_images(encoder: HashEncoder, count: int = 256) -> ImagesToCompare:
    """Creates images of random pixels, the same on every call. They are not representative of photographs."""
    size = int(encoder.description.transform["size"])

    def load(position: int) -> Tensor:
        generator = torch.Generator().manual_seed(position)
        return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)

    return ImagesToCompare("random pixels, which say little of photographs", count, load)


def images_of(encoder: HashEncoder, names: ImageNames, most: int) -> ImagesToCompare:
    """Selects at most `most` evenly spaced files, prepared by an encoder on loading. Unreadable ones are skipped.

    Raises:
        InputError: if fewer than two can be read.
    """
    kept = evenly(range(len(names.names)), most)

    def load(position: int) -> Tensor | None:
        try:
            return encoder.prepare(names.root / names.names[kept[position]])
        except Exception:  # PIL's plugins raise many types; each means that the file is unusable
            return None

    readable = (position for position in range(len(kept)) if load(position) is not None)
    if len(list(islice(readable, _LEAST))) < _LEAST:  # checked before anything is written
        raise InputError(f"a comparison needs at least {_LEAST} images of {names.root} that can be read.")
    source = f"{len(kept):,} of {len(names.names):,} images of {names.root.name}"
    return ImagesToCompare(source, len(kept), load)


def compare(encoder: HashEncoder, files: Sequence[OnnxRuntime], images: ImagesToCompare, k: int = 10) -> ParityReport:
    """Measures exported files against their encoder.

    Args:
        encoder: on the CPU.
        files: of this encoder.
        images: at least two.
        k: neighbours of each query. Every fifth image is a query; the others are the database.

    Raises:
        InputError: for fewer than two images.
    """
    if images.count < _LEAST:
        raise InputError(f"a comparison needs at least {_LEAST} images, got {images.count}.")
    logits: list[Tensor] = []
    own: list[Tensor] = []
    theirs: list[list[Tensor]] = [[] for _ in files]
    with single_thread():
        for pixels in images.batches():
            logits.append(_logits(encoder, pixels))
            own.append(pack(sign(logits[-1]).to(torch.int8)))
            for found, file in zip(theirs, files, strict=True):
                found.append(file(pixels).codes)
        times = latencies(encoder, files, next(images.batches()))
    return ParityReport(
        fingerprint=encoder.fingerprint,
        images=sum(map(len, own)),
        source=images.source,
        torch_latency=times[0],
        files=tuple(
            _agreement(file.description.precision, torch.cat(logits), torch.cat(own), torch.cat(found), k, time_of_file)
            for file, found, time_of_file in zip(files, theirs, times[1:], strict=True)
        ),
    )


def _logits(encoder: HashEncoder, pixels: Tensor) -> Tensor:
    """Logits (M, b) of the network, as `encode_pixels` computes them."""
    with torch.inference_mode():
        images = pixels.float().div_(255).to(memory_format=torch.channels_last)
        found: Tensor = encoder.folded_network.hashing_model.head(encoder.folded_network.backbone(images))
    return found


def _agreement(
    precision: str, logits: Tensor, own: Tensor, theirs: Tensor, k: int, latency: tuple[Latency, ...]
) -> Agreement:
    bits = logits.shape[1]
    differ = np.unpackbits((own ^ theirs).numpy(), axis=1, count=bits, bitorder="little").astype(bool)
    sizes = logits.abs().numpy()[differ]
    is_query = torch.arange(len(own)) % _QUERY_EVERY == 0
    database, queries = own[~is_query], own[is_query][:_MOST_QUERIES]
    k = min(k, len(database))
    distances, expected = nearest_codes(queries, database, k)
    _, found = nearest_codes(theirs[is_query][:_MOST_QUERIES], database, k)
    kept = (found[:, :, None] == expected[:, None, :]).any(2).float().mean()
    apart = np.bitwise_count((database[found] ^ queries[:, None]).numpy()).sum(axis=2)
    near = (apart <= distances[:, -1:].numpy()).mean()
    return Agreement(
        precision=precision,
        bits=logits.numel(),
        flipped=len(sizes),
        flipped_near_zero=int((sizes <= NEAR_ZERO).sum()),
        largest_flipped_logit=float(sizes.max(initial=0)),
        k=k,
        neighbours_kept=float(kept),
        neighbours_near=float(near),
        latency=latency,
    )


def latencies(encoder: HashEncoder, files: Sequence[OnnxRuntime], pixels: Tensor) -> list[tuple[Latency, ...]]:
    """Measures the network, then each file, in interleaved rounds so that a slow moment affects all of them.

    Args:
        encoder: on the CPU; call within `single_thread`.
        files: of this encoder.
        pixels: (M, 3, S, S) uint8, repeated to fill the batch sizes.
    """
    calls: list[Callable[[Tensor], object]] = [encoder.encode_pixels, *files]
    found: list[list[Latency]] = [[] for _ in calls]
    for batch in BATCHES:
        images = pixels[torch.arange(batch) % len(pixels)]
        times: list[list[float]] = [[] for _ in calls]
        for number in range(-3, _ROUNDS[batch]):  # the first ones warm up
            for call, each in zip(calls, times, strict=True):
                started = time.perf_counter()
                call(images)
                if number >= 0:
                    each.append(1e3 * (time.perf_counter() - started))
        for of_call, each in zip(found, times, strict=True):
            of_call.append(Latency(batch, statistics.median(each), float(np.quantile(each, 0.95))))
    return [tuple(each) for each in found]


def as_markdown(report: ParityReport) -> str:
    """Formats the report as a Markdown table, with a sentence on int8."""
    head = ["", *(f"ONNX {file.precision}" for file in report.files)]
    k = report.files[0].k
    rows = [
        ["bits flipped", *(f"{file.flipped:,} of {file.bits:,}" for file in report.files)],
        ["share of bits flipped", *(f"{file.flipped / file.bits:.5%}" for file in report.files)],
        [f"of them with a logit within {NEAR_ZERO:g} of 0", *(f"{file.flipped_near_zero:,}" for file in report.files)],
        ["largest logit of a flipped bit", *(f"{file.largest_flipped_logit:.2g}" for file in report.files)],
        [f"the {k} nearest that are kept", *(f"{file.neighbours_kept:.4f}" for file in report.files)],
        [f"found as near as the {k} nearest", *(f"{file.neighbours_near:.4f}" for file in report.files)],
    ]
    for own, *theirs in zip(report.torch_latency, *(file.latency for file in report.files), strict=True):
        for name in ("p50", "p95"):
            cells = [
                f"{getattr(each, name):.2f} ms, {getattr(own, name) / getattr(each, name):.2f}x" for each in theirs
            ]
            rows.append([f"batch {own.batch}, {name}; torch {getattr(own, name):.2f} ms", *cells])
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    told = [f"{report.images:,} images: {report.source}. One thread; times as fast as eager torch.", "", *lines]
    return "\n".join([*told, *_verdict(report)]) + "\n"


def _verdict(report: ParityReport) -> list[str]:
    """Sentences on int8; empty if there is no int8 file."""
    plain, *others = report.files
    told = []
    for file in others:
        ratios = [a.p50 / b.p50 for a, b in zip(plain.latency, file.latency, strict=True)]
        pays = max(ratios) >= _WORTH_SPEED and file.neighbours_near >= _WORTH_NEIGHBOURS
        times = " and ".join(f"{ratio:.2f}x at batch {batch}" for ratio, batch in zip(ratios, BATCHES, strict=True))
        told += [
            "",
            f"{file.precision} {'pays' if pays else 'does not pay'} here: {times} the speed of {plain.precision}, and "
            f"{1 - file.neighbours_near:.1%} of what it finds is farther than the {file.k} nearest.",
        ]
    return told


def write_report(report: ParityReport, path: Path) -> None:
    """Writes a report as JSON."""
    write_text(path, json.dumps(asdict(report), indent=1, sort_keys=True) + "\n")
