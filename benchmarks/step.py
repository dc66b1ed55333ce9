"""Time of a training step on stored features: ``compile=step`` against the eager step, and both against their limit.

    python benchmarks/step.py                              # BRCD, 64 bits, features as wide as EfficientNet-B0's
    python benchmarks/step.py --method kl --width 1024 --head linear

Whole epochs of 78 steps of batch 64 run through Lightning, eager and compiled in turn; medians are over epochs. The
limit is the unavoidable work of a step: the matrix products of the student's head, forward and backward, for two views
and the anchors, and one read of the codes by the losses.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning as L
import torch
from training_cost import BATCH, TRAIN, bare_trainer, random_splits, read_random_features

from brcd_lightning.backbones import IMAGENET, Backbone
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.features.datamodule import StoredDataModule
from brcd_lightning.data.transforms import natural_images
from brcd_lightning.distillation.base import KDMethod
from brcd_lightning.distillation.brcd import BRCD
from brcd_lightning.distillation.cosine import Cosine
from brcd_lightning.distillation.kl import KL
from brcd_lightning.distillation.sp import SP
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.hashing.cibhash import CIBHash
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions

BITS, VIEWS, TEACHER = 64, 8, 768
METHODS: dict[str, Callable[[], KDMethod]] = {"brcd": partial(BRCD, n_init=2), "cosine": Cosine, "kl": KL, "sp": SP}


class EpochTimes(L.Callback):
    """Records the seconds per step of each epoch, loading included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        """Called by Lightning."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Lightning."""
        self.seconds.append((time.perf_counter() - self._started) / trainer.num_training_batches)


class Training:
    """A student that is trained epoch by epoch."""

    def __init__(self, options: argparse.Namespace, folder: Path, compiled: bool) -> None:
        torch.manual_seed(0)
        teacher, student = (
            HashNetwork(
                Backbone(torch.nn.Identity(), width, IMAGENET, "full"),
                CIBHash(width, BITS, head=head, hidden_features=options.hidden),
            )
            for width, head in ((TEACHER, "linear"), (options.width, options.head))
        )
        splits = random_splits(2 * TRAIN)
        read_random_features([teacher, student], splits, VIEWS)
        method = METHODS[options.method]()
        method.setup(TRAIN, BITS, TRAIN // BATCH)
        training = TrainingOptions(1e-3, 1000, compile_losses=compiled)
        self.module = DistillationModule(student, teacher, method, training, {})
        self.data = StoredDataModule(HashingDataModule(splits, natural_images(32, False), BATCH), {"views": VIEWS})
        self.times, self.head = EpochTimes(), student.hashing_model.head
        self.trainer = bare_trainer(folder, self.times, max_epochs=0)

    def epochs(self, count: int) -> None:
        """Trains for some more epochs."""
        self.trainer.fit_loop.max_epochs = self.trainer.current_epoch + count
        self.trainer.fit(self.module, datamodule=self.data)


def limit_seconds(head: torch.nn.Module, width: int) -> float:
    """Median seconds of the head's products for 3 x 64 rows, forward and backward, and of one read of all codes."""
    layers = [layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = [torch.randn(3 * BATCH, layer.in_features) for layer in layers]
    outputs = [torch.randn(3 * BATCH, layer.out_features) for layer in layers]
    codes = torch.randn(5 * BATCH, BITS)
    seconds = []
    with torch.no_grad():
        for _ in range(300):
            started = time.perf_counter()
            for number, (layer, rows, grown) in enumerate(zip(layers, inputs, outputs, strict=True)):
                torch.addmm(layer.bias, rows, layer.weight.T)
                grown.T @ rows
                if number:
                    grown @ layer.weight
            codes.sum()
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Measures and prints ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=sorted(METHODS), default="brcd")
    parser.add_argument("--head", choices=("mlp", "linear"), default="mlp")
    parser.add_argument("--width", type=int, default=1280, help="features of the student")
    parser.add_argument("--hidden", type=int, default=128, help="hidden units of an MLP head")
    parser.add_argument("--rounds", type=int, default=3, help="plain and compiled in turn")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each in a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways = {name: Training(options, Path(folder), name == "compiled") for name in ("plain", "compiled")}
        started = time.perf_counter()
        ways["compiled"].epochs(1)  # compiles, or reads the compile cache
        first = time.perf_counter() - started
        ways["compiled"].times.seconds.clear()
        for _ in range(options.rounds):
            for way in ways.values():
                way.epochs(options.epochs)
        medians = {name: statistics.median(way.times.seconds) for name, way in ways.items()}
        limit = limit_seconds(ways["plain"].head, options.width)
    print(f"{options.method}, {options.head} head on {options.width} features, {torch.get_num_threads()} threads")
    print(f"first epoch compiled, with k-means: {first:.1f} s")
    for name, seconds in medians.items():
        print(f"{name:10} {1e3 * seconds:6.2f} ms/step, {limit / seconds:5.1%} of it arithmetic")
    print(f"compiled is {medians['plain'] / medians['compiled']:.2f}x as fast")
    saved = TRAIN // BATCH * (medians["plain"] - medians["compiled"])
    print(f"an epoch of {TRAIN // BATCH} steps saves {saved:.2f} s")


if __name__ == "__main__":
    main()
