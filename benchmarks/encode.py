"""Encoding of an image collection, and latency of one query, against a plain implementation.

    python benchmarks/encode.py MODEL IMAGES [--count 8000] [--codes 1000000]

MODEL is a run or a saved encoder, IMAGES a folder of photographs. The plain side is a DataLoader with as many worker
processes as there are processors, PIL and torchvision's v1 transforms, and the eager network in batches of 64. Ours is
`encode_corpus`: threads that decode and encode whole batches. The limits are decoding and cropping alone, and the
network alone, in the same threads. The share of the limit is the sum of their times divided by that of the encoding.

A query is decoded, encoded and searched among random codes, one at a time on one thread. The plain side is PIL,
torchvision's v1 transforms, the eager network, and a scan of all codes with torch or with our index. Rounds are
interleaved, so that a slow moment of the machine affects all sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1

from brcd_lightning.cli.allocator import keep_freed_memory
from brcd_lightning.codes import hamming_distance, unpack
from brcd_lightning.data.image_names import ImageNames, image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions, encode_corpus
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.export.onnx_runtime import with_onnx
from brcd_lightning.search import HammingIndex
from brcd_lightning.search.exact import use_threads

BATCH, PROCESSORS = 64, len(os.sched_getaffinity(0))
PLAIN, DECODING = "DataLoader and eager network", "limit: decoding and cropping alone"


class PlainImages(Dataset[Tensor]):
    """Files as network input, by PIL and torchvision's v1 transforms."""

    def __init__(self, paths: list[Path], transform: dict) -> None:
        size = transform["size"]
        crop = [v1.Resize(round(size * 8 / 7)), v1.CenterCrop(size)] if transform.get("center_crop") else None
        self.paths = paths
        self.prepare = v1.Compose([*(crop or [v1.Resize((size, size))]), v1.ToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.prepare(Image.open(self.paths[index]).convert("RGB"))


def seconds_of(call: Callable[[], object]) -> float:
    """Time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_threads(call: Callable[[int], object], batches: int) -> None:
    """Makes the calls in as many threads as there are processors, each with one torch thread."""
    with ThreadPoolExecutor(PROCESSORS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(call, range(batches)))


def corpus(encoder: HashEncoder, images: ImageNames, onnx: HashEncoder | None) -> None:
    """Prints the images per second of both sides and of the limits."""
    paths = [images.root / name for name in images.names]
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    plain = PlainImages(paths, dict(encoder.description.transform))
    pixels = torch.stack([encoder.prepare(path) for path in paths[:BATCH]])
    runtimes = {"torch": encoder, **({} if onnx is None else {"ONNX Runtime": onnx})}

    def plainly() -> None:
        with torch.no_grad():
            for batch in DataLoader(plain, BATCH, num_workers=PROCESSORS):
                encoder.network.encode(batch)

    def ours(by: HashEncoder) -> None:
        with tempfile.TemporaryDirectory() as folder:
            encode_corpus(by, images, Path(folder) / "codes", EncodeOptions(progress=False))

    calls = {PLAIN: plainly, DECODING: lambda: in_threads(lambda at: encoder.prepare_each(batches[at]), len(batches))}
    for name, by in runtimes.items():
        network = partial(in_threads, lambda _, by=by: by.encode_pixels(pixels), len(batches))
        calls |= {f"limit: network alone, {name}": network, f"encode_corpus, {name}": partial(ours, by)}
    rounds = [{name: seconds_of(call) for name, call in calls.items()} for _ in range(3)]
    medians = {name: statistics.median(each[name] for each in rounds) for name in calls}
    for name, seconds in medians.items():
        print(f"{name:36} {len(paths) / seconds:8,.0f} images/s")
    for name in runtimes:
        found = f"encode_corpus, {name}"
        ratio = statistics.median(each[PLAIN] / each[found] for each in rounds)
        limit = medians[DECODING] + medians[f"limit: network alone, {name}"]
        print(f"{found}: {ratio:.1f}x the plain way, {limit / medians[found]:.0%} of the limit")


def query(encoder: HashEncoder, onnx: HashEncoder | None, paths: list[Path], count: int) -> None:
    """Prints the latency of single queries in milliseconds."""
    use_threads(1)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (count, -(-encoder.bits // 8)), dtype=torch.uint8, generator=generator)
    index, signs = HammingIndex.build(codes, bits=encoder.bits, kind="flat"), unpack(codes, encoder.bits)
    plain = PlainImages(paths, dict(encoder.description.transform))

    def ours(by: HashEncoder, number: int) -> None:
        pixels = by.prepare(paths[number])
        index.search(by.encode_pixels(pixels[None]).codes, 10)

    def eagerly(number: int) -> None:
        code = encoder.network.encode(plain[number][None])
        index.search(code, 10)

    def plainly(number: int) -> None:
        code = encoder.network.encode(plain[number][None])
        hamming_distance(code, signs).topk(10, largest=False)

    calls = {"plain": plainly, "plain, our search": eagerly, "torch": partial(ours, encoder)}
    if onnx is not None:
        calls["ONNX Runtime"] = partial(ours, onnx)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-5, len(paths)):  # the first ones warm up
        for name, call in calls.items():
            milliseconds = 1e3 * seconds_of(partial(call, max(number, 0)))
            if number >= 0:
                times[name].append(milliseconds)
    for name, each in times.items():
        p50, p95 = torch.tensor(each).quantile(torch.tensor([0.5, 0.95])).tolist()
        print(f"query among {count:,} codes, {name:17}: p50 {p50:6.2f} ms, p95 {p95:6.2f} ms")
    for name in list(calls)[1:]:
        ratio = statistics.median(a / b for a, b in zip(times["plain"], times[name], strict=True))
        eager = statistics.median(a / b for a, b in zip(times["plain, our search"], times[name], strict=True))
        print(f"{name}: {ratio:.1f}x plain, {eager:.1f}x plain with our search")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=8000, help="images to encode")
    parser.add_argument("--onnx", type=Path, help="also measure by ONNX Runtime, with this file of brcd export")
    parser.add_argument("--codes", type=int, default=1_000_000, help="codes to search in")
    args = parser.parse_args()
    keep_freed_memory()  # as brcd encode does; for all sides
    encoder, images = HashEncoder.from_pretrained(args.model), image_names(args.images)
    images = images._replace(names=images.names[: args.count])
    print(f"{PROCESSORS} processors, {len(images.names):,} images, {encoder.bits} bits")
    onnx = None if args.onnx is None else with_onnx(encoder, args.onnx)
    corpus(encoder, images, onnx)
    query(encoder, onnx, [images.root / name for name in images.names[:200]], args.codes)


if __name__ == "__main__":
    main()
