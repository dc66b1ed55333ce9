"""Time and memory of one step of each distillation loss on one CPU core, forward and backward.

    python benchmarks/kd_methods.py

64 images of 64 bits, 5,000 training images, embeddings of 128, 500 negatives. Each method runs in its own process. The
time is the median of 30 steps, also as a ratio to BRCD's. The memory is the peak growth of the process during a step,
without the method's own state (Linux).
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from omegaconf import OmegaConf

from brcd_lightning.config import CONFIG_DIR, build
from brcd_lightning.distillation.base import KDInput, KDMethod

IMAGES, BITS, TRAIN, STEPS = 64, 64, 5_000, 30
METHODS = ("brcd", "kl", "sp", "rkd", "pkt", "crd", "sskd", "crcd", "packd")


def make_method(name: str) -> KDMethod:
    """A method with its configured options, prepared for a training split."""
    options = OmegaConf.load(CONFIG_DIR / "kd_method" / f"{name}.yaml")
    if "dim" in options:
        options.dim = 128
    method = build(options)
    method.setup(TRAIN, BITS, TRAIN // IMAGES)
    method.prepare(codes(TRAIN), torch.arange(TRAIN) % 10)
    return method


def codes(*shape: int) -> torch.Tensor:
    """Random codes in {-1, +1}."""
    return torch.randint(0, 2, (*shape, BITS)) * 2.0 - 1


def step(method: KDMethod) -> None:
    """One forward and backward pass on a random batch."""
    student = {
        "student": (IMAGES,),
        "student_rotations": (IMAGES, 4),
        "student_positives": (IMAGES, 3),
    }
    batch = KDInput(
        **{name: codes(*shape).requires_grad_() for name, shape in student.items()},
        teacher=codes(IMAGES),
        teacher_view=codes(IMAGES),
        teacher_rotations=codes(IMAGES, 4),
        teacher_positives=codes(IMAGES, 3),
        index=torch.randperm(TRAIN)[:IMAGES],
    )
    torch.stack(list(method(batch).terms.values())).sum().backward()


def resident(field: str) -> float:
    """A memory field of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(name: str) -> None:
    """Prints milliseconds per step and MiB of a step."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    step(make_method("kl"))  # warms up autograd
    method = make_method(name)
    ctypes.CDLL(None).malloc_trim(0)  # return freed memory to the system
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = resident("VmRSS")
    step(method)
    memory = resident("VmHWM") - before
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step(method)
        times.append(time.perf_counter() - started)
    print(1000 * statistics.median(times), memory)


def main() -> None:
    """Measures every method in its own process, and prints the table."""
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    reference = None
    print(f"{'method':8} {'ms/step':>8} {'x brcd':>7} {'MiB':>7}")
    for name in METHODS:
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        milliseconds, memory = (float(value) for value in done.stdout.split())
        reference = reference or milliseconds
        print(f"{name:8} {milliseconds:8.2f} {milliseconds / reference:7.2f} {memory:7.1f}")


if __name__ == "__main__":
    main()
