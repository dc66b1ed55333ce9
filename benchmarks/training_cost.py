"""Cost of one cell of the grid: a plain online loop against the view store, in one run.

    python benchmarks/training_cost.py                     # ViT-B/16 -> EfficientNet-B0 at 224 pixels, minutes on a CPU
    python benchmarks/training_cost.py --teacher resnet18 --student mobilenet_v2 --size 64

A cell: 5,000 training images of 32 pixels, 400 epochs of batch 64, a database of 50,000 and 10,000 queries. Weights and
images are random, which does not affect the times. The online loop is the usual implementation: per step, two augmented
views of each image pass through both frozen backbones (two student and two teacher forwards), followed by the losses
and a step of the student's head. Ours computes the features of every image and of --views views once, then trains the
head on them.

Measured are the seconds per step of both, and the seconds per image for filling the store. Everything else is
extrapolated and marked as such. Both leave out validation during training, which would cost 50,000 more forwards each
time online.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader

from brcd_lightning.backbones import torchvision_backbone
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.features.builder import TransformedSplits
from brcd_lightning.data.features.cache import Display, ViewStore
from brcd_lightning.data.features.datamodule import StoredDataModule
from brcd_lightning.data.features.inference import Inference
from brcd_lightning.data.features.stored_backbone import StoredBackbone
from brcd_lightning.data.features.table import FeatureTable
from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import natural_images
from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.brcd import BRCD
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.hashing.cibhash import CIBHash
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions
from brcd_lightning.training.teacher_codes import TeacherCodesCallback

TRAIN, EVALUATED, BATCH, EPOCHS, CELLS = 5_000, 60_000, 64, 400, 20
STEPS = TRAIN // BATCH * EPOCHS


class StepTimes(L.Callback):
    """Records the seconds of each training step, loading included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Called by Lightning."""
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        """Median without the first step."""
        return statistics.median(b - a for a, b in itertools.pairwise(self.ends[1:]))


def networks(options: argparse.Namespace) -> tuple[HashNetwork, HashNetwork]:
    """Teacher with a linear head, student with an MLP, random frozen backbones, 64 bits."""
    teacher, student = (torchvision_backbone(name, weights=None) for name in (options.teacher, options.student))
    return (
        HashNetwork(teacher, CIBHash(teacher.num_features, 64)),
        HashNetwork(student, CIBHash(student.num_features, 64, head="mlp")),
    )


def random_splits(images: int) -> Splits:
    """Random images in the size of CIFAR-10's; one in ten is in the training split."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
    source = ArrayImages(pixels, [str(i) for i in range(images)], torch.arange(images) % 10)
    query, rest = torch.arange(images // 10), torch.arange(images // 10, images)
    return Splits(source, train=rest[: images // 2], query=query, database=rest, val_query=rest[-images // 10 :])


def read_random_features(networks: Sequence[HashNetwork], splits: Splits, views: int) -> None:
    """Gives the networks a store of the real size with random features, whose values do not affect the times."""
    images = len(splits.used)
    for network in networks:
        width = network.backbone.num_features
        parts = [torch.randn(images, 1, width), torch.randn(len(splits.train), views, width)]
        table = FeatureTable([part.half().numpy() for part in parts], images, len(splits.train))
        network.backbone = StoredBackbone(network.backbone, table)


def bare_trainer(folder: Path, times: L.Callback, **length: int) -> L.Trainer:
    """A trainer of a student on a CPU that neither validates nor writes anything but the teacher's codes."""
    return L.Trainer(
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[times, TeacherCodesCallback(folder, {})],
        **length,
    )


def online_step(options: argparse.Namespace, workers: int) -> float:
    """Seconds of one step of a plain loop: no decoding, two augmentations, four forwards, losses, and a head step."""
    teacher, student = networks(options)
    teacher.eval()
    splits = random_splits(max(10 * BATCH, 4 * BATCH * options.steps))
    data = HashingDataModule(splits, natural_images(options.size, False), BATCH, num_workers=workers, anchor_view="aug")
    method = BRCD(num_clusters=10)
    codes = torch.randint(0, 2, (len(splits.train), 64)) * 2 - 1
    method.prepare(codes)
    optimizer = torch.optim.Adam((p for p in student.parameters() if p.requires_grad), lr=1e-3)
    loader: DataLoader = data.train_dataloader()
    ends = []
    for number, prepared in enumerate(loader):
        batch = data.on_after_batch_transfer(prepared)
        views = [student([view])[0] for view in (batch.first, batch.second)]
        codes = [teacher.encode(view).float() for view in (batch.first, batch.second)]
        loss = sum(student.hashing_model.objective(views).values())
        loss += sum(method(KDInput(views[0].code, codes[0], batch.index, codes[1])).terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(time.perf_counter())
        if number == options.steps:
            break
    return statistics.median(b - a for a, b in itertools.pairwise(ends))


def stored(options: argparse.Namespace, workers: int, folder: Path) -> tuple[float, float]:
    """Seconds per image of filling the store with both backbones, and seconds of one step on it."""
    teacher, student = networks(options)
    transforms = natural_images(options.size, False)
    few = random_splits(options.images)
    store = ViewStore(views=1, num_workers=workers, folder=str(folder))
    about = {"teacher": options.teacher, "student": options.student, "transform": options.size}
    backbones = {"teacher": teacher.backbone, "student": student.backbone}
    started = time.perf_counter()
    store.open(
        backbones,
        about,
        TransformedSplits(few, transforms),
        amounts={"views": 1},
        inference=Inference(torch.device("cpu"), "32-true"),
        display=Display(print, progress=False),
    )
    rows = len(few.used) + len(few.train)
    per_image = (time.perf_counter() - started) / rows

    splits = random_splits(2 * TRAIN)
    read_random_features([teacher, student], splits, options.views)
    times = StepTimes()
    module = DistillationModule(student, teacher, BRCD(num_clusters=10), TrainingOptions(1e-3, 1000), {})
    trainer = bare_trainer(folder, times, max_steps=200)
    data = StoredDataModule(HashingDataModule(splits, transforms, BATCH), {"views": options.views})
    trainer.fit(module, datamodule=data)
    return per_image, times.seconds()


def main() -> None:
    """Measures, extrapolates and prints ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="vit_b_16")
    parser.add_argument("--student", default="efficientnet_b0")
    parser.add_argument("--size", type=int, default=224, help="side of the network input in pixels")
    parser.add_argument("--views", type=int, default=16, help="stored views per training image")
    parser.add_argument("--steps", type=int, default=3, help="online steps to time")
    parser.add_argument("--images", type=int, default=200, help="images to time the filling of the store with")
    options = parser.parse_args()
    workers = min(os.cpu_count() or 1, 16)
    with tempfile.TemporaryDirectory() as folder:
        per_image, step = stored(options, workers, Path(folder))
    online = online_step(options, workers)

    rows = EVALUATED + options.views * TRAIN
    fill = rows * per_image
    test = EVALUATED * per_image
    ours_first, ours_next = fill + STEPS * step, STEPS * step
    theirs = STEPS * online + test
    forwards_online, forwards_ours = STEPS * BATCH * 4 + 2 * EVALUATED, 2 * rows
    print(f"{options.teacher} -> {options.student}, {options.size} pixels, {torch.get_num_threads()} threads")
    print(
        f"measured: online step {online:.3f} s; store step {step * 1e3:.2f} ms; filling {per_image * 1e3:.1f} ms a row"
    )
    print("multiplied out:                  online          ours   ratio")
    hours = 3600
    for name, a, b in (
        ("first cell, hours", theirs / hours, ours_first / hours),
        ("every further cell, hours", theirs / hours, ours_next / hours),
        (f"grid of {CELLS}, hours", CELLS * theirs / hours, (fill + CELLS * ours_next) / hours),
        ("backbone forwards of one cell", forwards_online, forwards_ours),
        (f"backbone forwards of {CELLS}", CELLS * forwards_online, forwards_ours),
    ):
        print(f"{name:30} {a:14,.2f} {b:13,.2f} {a / b:6.1f}x")


if __name__ == "__main__":
    main()
