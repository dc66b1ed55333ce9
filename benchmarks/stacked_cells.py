"""Time of a training step for several cells at once, as one stacked head, against one cell after another.

    python benchmarks/stacked_cells.py                     # BRCD on CIBHash, 64 bits, 1, 2, 4 and 8 cells
    python benchmarks/stacked_cells.py --compile

The cells share features, batches and the teacher, as those of a grid of alpha, delta, weights and seeds could. Both
sides are bare loops over the project's loss functions, without Lightning: the head for two views and the anchors, the
objective of CIBHash, BRCD, and Adam. The stacked step multiplies the first layers of all cells as one matrix, the
second ones as a batch, and maps the losses over cells with `torch.func.vmap`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from brcd_lightning.codes import sign
from brcd_lightning.distillation.brcd import BatchClusters, BRCDOptions, brcd_loss
from brcd_lightning.hashing.cibhash import nt_xent, symmetric_bernoulli_kl

BATCH, BITS, HIDDEN, CLUSTERS = 64, 64, 128, 40


class Batch:
    """Features and teacher codes of one batch, random."""

    def __init__(self, width: int) -> None:
        self.rows = torch.randn(3 * BATCH, width)  # two views and the anchors
        self.teacher, self.teacher_view = sign(torch.randn(2, BATCH, BITS)).float()
        centroids, masks = torch.randn(CLUSTERS, BITS), (torch.rand(CLUSTERS, BITS) < 0.8).float()
        self.clusters = BatchClusters.nearest(self.teacher, self.teacher_view, centroids, masks)


def step_loss(logits: Tensor, batch: Batch, options: BRCDOptions) -> Tensor:
    """Loss of one cell from its logits (3M, b)."""
    values = torch.sigmoid(logits)
    codes = values + (sign(logits) - values).detach()  # `straight_through`, in a form that vmap takes
    first, second, anchors = codes.chunk(3)
    bottleneck = symmetric_bernoulli_kl(values[:BATCH], values[BATCH : 2 * BATCH])
    distilled = brcd_loss(anchors, batch.teacher, batch.teacher_view, batch.clusters, options)
    return nt_xent(first, second, 0.3) + 0.001 * bottleneck + distilled


class Cells:
    """Parameters and optimizer of some cells."""

    def __init__(self, count: int, width: int, compiled: bool) -> None:
        self.batch = Batch(width)
        shapes = ((count, HIDDEN, width), (count, HIDDEN), (count, BITS, HIDDEN), (count, BITS))
        self.parameters = [torch.nn.Parameter(0.03 * torch.randn(shape)) for shape in shapes]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3, foreach=True)
        self.loss: Callable[[], Tensor] = torch.compile(self._loss) if compiled else self._loss

    def step(self) -> None:
        """One training step of all cells."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def _loss(self) -> Tensor:
        options = BRCDOptions()
        first, first_bias, second, second_bias = self.parameters
        count = len(first)
        if count == 1:  # one cell as it is trained today
            hidden = torch.addmm(first_bias[0], self.batch.rows, first[0].T).relu()
            return step_loss(torch.addmm(second_bias[0], hidden, second[0].T), self.batch, options)
        hidden = torch.addmm(first_bias.flatten(), self.batch.rows, first.flatten(0, 1).T).relu()  # (3M, cells * h)
        per_cell = hidden.unflatten(1, (count, HIDDEN)).transpose(0, 1)  # (cells, 3M, h)
        logits = torch.baddbmm(second_bias[:, None], per_cell, second.transpose(1, 2))
        losses: Tensor = torch.func.vmap(lambda rows: step_loss(rows, self.batch, options))(logits)
        return losses.sum()


def median_ms(step: Callable[[], None], steps: int) -> float:
    """Median milliseconds of a step."""
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> None:
    """Measures and prints ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1280, help="features of the student")
    parser.add_argument("--cells", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5, help="one cell and stacked cells in turn")
    parser.add_argument("--steps", type=int, default=100, help="steps of each in a round")
    parser.add_argument("--compile", action="store_true", help="compile both sides")
    options = parser.parse_args()
    torch.manual_seed(0)
    ways = {count: Cells(count, options.width, options.compile) for count in (1, *options.cells)}
    for way in ways.values():
        median_ms(way.step, 10)  # warm
    rounds = [{count: median_ms(way.step, options.steps) for count, way in ways.items()} for _ in range(options.rounds)]
    medians = {count: statistics.median(each[count] for each in rounds) for count in ways}
    print(f"{torch.get_num_threads()} threads, {options.width} features, {'compiled' if options.compile else 'eager'}")
    for count, ms in medians.items():
        gain = medians[1] * count / ms
        print(f"{count} cells: {ms:6.2f} ms a step, {ms / count:5.2f} ms per cell, {gain:.2f}x one cell after another")


if __name__ == "__main__":
    main()
