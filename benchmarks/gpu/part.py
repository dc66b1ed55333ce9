"""One part of the check, run in its own process: python -m benchmarks.gpu.part NAME SIZE FILE SECONDS."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu.record import ROOT, Findings
from brcd_lightning.search.exact import use_threads
from brcd_lightning.storage.atomic import write_text


@dataclass(frozen=True)
class Size:
    """Sizes of the measurements."""

    name: str
    cases: int
    """Runs every n-th of the small trainings."""
    epochs: int
    """Epochs of the cell."""
    train: int
    """Training images of the cell; twelve times as many are evaluated."""
    stored: int
    """Images whose features are stored."""
    steps: int
    """Steps that are timed."""
    queries: int
    database: int
    """Queries and database codes of the evaluation."""
    millions: tuple[int, ...]
    """Numbers of searched codes, in millions."""


FULL = Size("full", 1, 400, 5_000, 8_000, 200, 10_000, 50_000, (10, 100))
SMALL = Size("small", 3, 2, 512, 10, 20, 500, 5_000, (1,))


@dataclass(frozen=True)
class Task:
    """Input of a part."""

    size: Size
    device: torch.device
    budget_s: float
    folder: Path
    """Temporary folder, removed when the part ends, even after an error."""


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        name: also the name of the function.
        module: module of the function, below ``benchmarks.gpu``. The function fills `Findings` for a `Task`.
        budget_s: time limit in seconds, after which the part fails. The sum over all parts is below nine minutes.
            Without a GPU the limit is tripled, because the machine may be shared with other work.
        needs_cuda: whether the part has no CPU form.
    """

    name: str
    module: str
    budget_s: int
    needs_cuda: bool = False


PARTS = (
    Part("tests", "equality", 90, needs_cuda=True),
    Part("equality", "equality", 40),
    Part("half", "equality", 45),
    Part("store", "training", 40),
    Part("steps", "training", 85),
    Part("cell", "training", 155),
    Part("retrieval", "retrieval", 40),
    Part("processes", "processes", 40),
)


def main() -> None:
    """Runs the part named on the command line, and writes its findings, even after an error."""
    sys.path.insert(0, str(ROOT / "tests"))  # for the small methods, models and trainings defined there
    name, size, file, budget = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("no time left"))
    module = next(part.module for part in PARTS if part.name == name)
    measure: Callable[[Findings, Task], None] = getattr(import_module(f"benchmarks.gpu.{module}"), name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        use_threads(1)  # for small sizes, a team of threads mostly waits
    findings = Findings()
    try:
        measure(findings, Task(FULL if size == FULL.name else SMALL, device, float(budget), Path(file).parent))
    finally:
        write_text(Path(file), json.dumps(asdict(findings)))


if __name__ == "__main__":
    main()
