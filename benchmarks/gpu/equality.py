"""Comparison of GPU and CPU results; without a GPU, single against double precision, or a slow reference."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable

import torch

from benchmarks.gpu.part import Task
from benchmarks.gpu.record import ROOT, Findings
from both_devices import (
    REFERENCE,
    TOLERANCE,
    by_sorting,
    clusters,
    difference,
    distillation,
    hashing,
    metrics,
    searches,
)
from brcd_lightning.data.fake import fake
from offered import HASHING_MODELS, KD_CASES
from small_cases import CASES, trained

_NEAR = 0.05
"""Relative tolerance: half precision flips bits of logits near zero, which changes the losses of small batches."""


def tests(found: Findings, task: Task) -> None:
    """Runs the tests marked `cuda`."""
    marked = re.compile(r"mark\.cuda|both_devices")
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if marked.search(path.read_text())]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "cuda", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    found.values += [(kind, count, "tests") for kind, count in counts.items()]
    found.require("passed" in counts, "no test has passed")
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, flags=re.MULTILINE)
    found.require(done.returncode == 0, f"pytest: {last} {' '.join(failed)}")


def equality(found: Findings, task: Task) -> None:
    """Compares losses, gradients and memories of all methods and models, then clusters, metrics and searches."""
    cuda = task.device.type == "cuda"
    other = {"device": task.device.type, "dtype": torch.float32 if cuda else torch.float64}
    for what, names, outcome in (
        ("distillation methods", KD_CASES, distillation),
        ("hashing models", HASHING_MODELS, hashing),
    ):
        _compare(found, f"losses and gradients of {what}", names, outcome, other)
    same: dict[str, Callable[[], float]] = {
        "searches": lambda: difference(searches(task.device), searches("cpu", by_sorting)),
        "clusters": lambda: difference(clusters(task.device), clusters("cpu")),
        "metrics": lambda: difference(metrics(task.device), metrics("cpu")),
    }
    for what, gap_of in same.items():
        if not cuda and what != "searches":
            found.skipped[what] = "there is no other device to compare with"
            continue
        gap = gap_of()
        found.values.append((what, gap, "largest difference"))
        found.require(gap < 1e-9, f"{what} differ by {gap}")


def _compare(
    found: Findings, what: str, names: Iterable[str], outcome: Callable[..., dict], other: dict[str, object]
) -> None:
    gaps = {name: difference(outcome(name, **other), outcome(name, **REFERENCE)) for name in names}
    worst = max(gaps, key=lambda name: gaps[name])
    found.values.append((what, gaps[worst], f"largest difference, of {worst}, among {len(gaps)}"))
    for name, gap in gaps.items():
        found.require(gap < TOLERANCE, f"{what}: {name} differs by {gap}")


def half(found: Findings, task: Task) -> None:
    """Runs a few steps of every method and model in both half-precision formats."""
    splits, kind = fake(), task.device.type
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if kind == "cpu":
        kinds.pop("fp16")
        found.skipped["fp16"] = "measured on a GPU alone"
    full = {case: trained(case, splits, device=kind) for case in CASES[:: task.size.cases]}
    for name, mixed in kinds.items():
        gaps = {}
        for case, expected in full.items():
            losses = trained(case, splits, device=kind, mixed=mixed)["losses"]
            found.require(bool(losses.isfinite().all()), f"{'-'.join(case)} in {name}: losses {losses.tolist()}")
            gaps[case] = float((losses[0] - expected["losses"][0]).abs() / expected["losses"][0].abs().clamp_min(1))
            found.require(gaps[case] < _NEAR, f"{'-'.join(case)} in {name}: loss differs by {gaps[case]:.3g}")
        worst = max(gaps, key=lambda case: gaps[case])
        found.values.append((f"first loss in {name}", gaps[worst], f"largest difference, of {'-'.join(worst)}"))
