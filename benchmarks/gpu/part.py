"""One part of the check, in a process of its own: python -m benchmarks.gpu.part NAME SIZE FILE SECONDS."""

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
    """How much is measured."""

    name: str
    cases: int
    """Every so many of the small trainings."""
    epochs: int
    """Of the cell."""
    train: int
    """Its training images; twelve times as many are evaluated."""
    stored: int
    """Images whose features are stored."""
    steps: int
    """Steps that are timed."""
    queries: int
    database: int
    """Of the evaluation."""
    millions: tuple[int, ...]
    """Codes that are searched."""


FULL = Size("full", 1, 400, 5_000, 8_000, 200, 10_000, 50_000, (10, 100))
SMALL = Size("small", 3, 2, 512, 10, 20, 500, 5_000, (1,))


@dataclass(frozen=True)
class Task:
    """What a part is given."""

    size: Size
    device: torch.device
    budget_s: float
    folder: Path
    """For files; it is removed when the part has ended, however it ends."""


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        name: also that of the function.
        module: where the function is, below ``benchmarks.gpu``; it fills `Findings` for a `Task`.
        budget_s: after so many seconds it has failed; all together stay below nine minutes. Without a GPU it has
            thrice the time: whoever tests there may have other work on the machine.
        needs_cuda: whether it has no form for the CPU.
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
    """Runs the part that the command line names, and writes what it found, also before an error."""
    sys.path.insert(0, str(ROOT / "tests"))  # whose small methods, models and trainings are those that are compared
    name, size, file, budget = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("no time left"))
    module = next(part.module for part in PARTS if part.name == name)
    measure: Callable[[Findings, Task], None] = getattr(import_module(f"benchmarks.gpu.{module}"), name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        use_threads(1)  # small sizes, where a team of threads mostly waits for its last one
    findings = Findings()
    try:
        measure(findings, Task(FULL if size == FULL.name else SMALL, device, float(budget), Path(file).parent))
    finally:
        write_text(Path(file), json.dumps(asdict(findings)))


if __name__ == "__main__":
    main()
