"""Throughput of loading training batches (anchor and two views per image) from files, against PIL and torchvision v1.

    python benchmarks/data.py

Photographs of 32 and 500 pixels are saved as JPEG in a temporary folder; the network input has 224 pixels. Both sides
use as many loader processes as there are processors. The plain side follows the released code: PIL images through
torchvision.transforms v1 in the workers. Ours decodes with PIL, crops tensors, and applies colours to whole batches, in
the workers when training on a CPU and on the device when there is a GPU. The backbone normalises.

Finally, a list of MSCOCO's size is read and split, and compared with a loop over its lines.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1

from brcd_lightning.backbones import IMAGENET
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.image_folder import image_folder
from brcd_lightning.data.label_lists import read_list
from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.data.splitting import draw_at_random
from brcd_lightning.data.transforms import natural_images

IMAGES, BATCH, SIZE, WORKERS = 512, 64, 224, os.cpu_count() or 1
NORMALISE = [v1.ToTensor(), v1.Normalize(*IMAGENET)]


class PlainImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The anchor and two views of each file."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.anchor = v1.Compose([v1.Resize(256), v1.CenterCrop(SIZE), *NORMALISE])
        self.view = v1.Compose(
            [
                v1.RandomResizedCrop(SIZE, scale=(0.5, 1.0)),
                v1.RandomHorizontalFlip(),
                v1.RandomApply([v1.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.7),
                v1.RandomGrayscale(0.2),
                v1.RandomApply([v1.GaussianBlur(3, (0.1, 2.0))], p=0.5),
                *NORMALISE,
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        with Image.open(self.paths[index]) as image:
            pixels = image.convert("RGB")
        return self.anchor(pixels), self.view(pixels), self.view(pixels)


def write_photographs(folder: Path, side: int) -> list[Path]:
    """Smooth random pictures, as compressible as photographs are."""
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(generator.integers(0, 256, (max(4, side // 16),) * 2 + (3,), dtype=np.uint8))
        path = folder / ("train" if number >= 8 else "test") / "all" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    return sorted((folder / "train").rglob("*.jpg"))


def images_per_second(batches: Iterable, use: Callable[[object], object]) -> float:
    """Throughput of a second pass, because the first one starts the workers."""
    for batch in batches:
        use(batch)
    started, count = time.perf_counter(), 0
    for batch in batches:
        use(batch)
        count += BATCH
    return count / (time.perf_counter() - started)


def _finish(data: HashingDataModule, device: str, batch: object) -> list[Tensor]:
    batch = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, torch.device(device), 0))
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in IMAGENET)
    return [(images - mean).div_(std) for images in (batch.anchor, batch.first, batch.second)]


def compare_lists() -> None:
    """Compares the reading of a list of 122,218 images with 80 labels each."""
    rows = (np.random.default_rng(0).random((122_218, 80)) < 0.04).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_text("".join(f"i/{n}.jpg {' '.join(map(str, row))}\n" for n, row in enumerate(rows.tolist())))
        started = time.perf_counter()
        np.array([[int(value) for value in line.split()[1:]] for line in path.read_text().splitlines()])
        plain, started = time.perf_counter() - started, time.perf_counter()
        source = ArrayImages(torch.zeros(1, 3, 1, 1), *read_list(path, 80))
        draw_at_random(source, num_query=5000, num_train=10_000, num_val_query=1000)
        ours = time.perf_counter() - started
    print(
        f"list of COCO's size: read by a loop {plain:.2f} s; read, checked and split {ours:.2f} s ({ours / plain:.2f}x)"
    )


def main() -> None:
    """Measures and prints the table."""
    print(f"{WORKERS} loader processes, {IMAGES} images, input of {SIZE} pixels")
    print(f"{'photographs':>12} {'plain':>9} {'ours':>9}   images/s      ratio")
    for side in (32, 500):
        with tempfile.TemporaryDirectory() as folder:
            paths = write_photographs(Path(folder), side)
            options = {"batch_size": BATCH, "num_workers": WORKERS, "persistent_workers": True, "drop_last": True}
            plain = images_per_second(DataLoader(PlainImages(paths), shuffle=True, **options), lambda batch: batch)
            counts = {"train_per_class": IMAGES - 16, "val_query_per_class": 8}
            data = HashingDataModule(
                image_folder(folder, **counts), natural_images(SIZE), batch_size=BATCH, num_workers=WORKERS
            )
            ours = images_per_second(data.train_dataloader(), partial(_finish, data, "cpu"))
            print(f"{side:>9} px {plain:9.1f} {ours:9.1f} {'':10} {ours / plain:8.2f}x")
            if torch.cuda.is_available():
                on_gpu = images_per_second(data.train_dataloader(), partial(_finish, data, "cuda"))
                print(f"{'on the GPU':>12} {'':9} {on_gpu:9.1f} {'':10} {on_gpu / plain:8.2f}x")
    compare_lists()


if __name__ == "__main__":
    main()
