"""The fair fight: every distillation method on one testbed, each with options chosen on validation queries.

    python experiments/fair_fight.py run cifar_testbed OUTPUT dataset.root=CIFAR10
    python experiments/fair_fight.py table cifar_testbed OUTPUT

``run`` first tunes every method (64 bits, seed 0, 20 epochs, by the best validation mAP@1000 in SSHP), then trains each
with the best options found (32 and 64 bits, three seeds, 50 epochs). It is a list of ordinary multirun sweeps, two at a
time with one thread each; those that have finished are not run again, so the command continues where it was stopped.
``table`` prints mean and standard deviation over the seeds, and a paired bootstrap of BRCD against every other method.
Further arguments of ``run`` are overrides of every command.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from brcd_lightning.codes import unpack
from brcd_lightning.metrics import average_precisions_by_ties, bootstrap_interval
from brcd_lightning.results.record import read_results
from brcd_lightning.results.run_files import DONE

GRIDS: dict[str, list[list[str]]] = {
    "packd": [["kd_method.weight=0.1,1,10"], ["kd_method.weight=100"]],
    "crcd": [["kd_method.weight=0.1,1,10"], ["kd_method.weight=100"]],
    "brcd": [
        ["kd_method.alpha=0.7,0.9", "kd_method.delta=0.2,0.35,0.5", "kd_method.num_clusters=10,20"],
        [
            "kd_method.alpha=0.9",
            "kd_method.delta=0.35",
            "kd_method.num_clusters=10",
            "kd_method.tau=0.1,0.2,0.5",
            "kd_method.weight=1,3,10",
        ],
        [
            "kd_method.alpha=0.9",
            "kd_method.delta=0.35",
            "kd_method.num_clusters=10",
            "kd_method.tau=0.3",
            "kd_method.weight=3,10,30",
        ],
    ],
    "rkd": [["kd_method.weight=0.1,1,10"], ["kd_method.weight=0.3,3"]],
    "crd": [["kd_method.weight=0.1,1,10"], ["kd_method.weight=100"]],
    "sskd": [["kd_method.weight=0.1,1,10"], ["kd_method.weight=100"]],
    "kl": [["kd_method.weight=0.1,1,10,100"]],
    "sp": [["kd_method.weight=1,30,300,3000"], ["kd_method.weight=30000"]],
    "sp_per_sample": [["kd_method.variant=per_sample", "kd_method.weight=0.1,1,10,100"]],
    "pkt": [["kd_method.weight=1,300,3000,30000"], ["kd_method.weight=300000"]],
}
"""What is tuned of each method: a grid, and further ones where the best of the first lay at its edge."""

ENTRIES: dict[str, tuple[str | None, list[str]]] = {
    "none": (None, ["kd_method=none"]),
    **{name: (name, []) for name in GRIDS},
    "brcd_wo_bm": ("brcd", ["kd_method=brcd_wo_bm"]),
    "brcd_wo_p": ("brcd", ["kd_method=brcd_wo_p"]),
    "brcd_wo_np": ("brcd", ["kd_method=brcd_wo_np"]),
    "brcd_eq3": ("brcd", ["kd_method=brcd_eq3"]),
    "release_zero_mask": ("brcd", ["kd_method=brcd", "profile=release", "kd_method.mask_source=zeros"]),
    "release_true_mask": ("brcd", ["kd_method=brcd", "profile=release", "kd_method.mask_source=expectations"]),
}
"""Rows of the table: whose tuned options they use, and their own options."""

BITS, SEEDS = (32, 64), (0, 1, 2)


def main() -> None:
    """Reads the command."""
    command, testbed, output, *overrides = sys.argv[1:]
    folder = Path(output).resolve() / testbed
    common = [f"+experiment={testbed}", f"output_dir={Path(output).resolve()}", *overrides]
    if command == "run":
        short = "student.max_epochs=20"
        tuning = [
            (
                folder / "tuning" / f"{name}_{number}",
                [*common, f"kd_method={name.removesuffix('_per_sample')}", *grid, short],
            )
            for name, grids in GRIDS.items()
            for number, grid in enumerate(grids)
        ]
        sweep(tuning)
        grid = [f"bits={','.join(map(str, BITS))}", f"seed={','.join(map(str, SEEDS))}", "student.max_epochs=50"]
        sweep([(folder / name, [*common, *chosen(folder, name), *grid]) for name in ENTRIES])
    else:
        table(folder)


def sweep(jobs: Sequence[tuple[Path, list[str]]]) -> None:
    """Runs multirun sweeps, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        for path, code in pool.map(_sweep, jobs):
            print(f"{path}: {'finished' if code == 0 else f'exit status {code}, see sweep.log there'}", flush=True)


def _sweep(job: tuple[Path, list[str]]) -> tuple[Path, int]:
    path, overrides = job
    if (path / DONE).exists():
        return path, 0
    # Of an option given twice the last one counts.
    options = {override.partition("=")[0]: override for override in overrides}
    command = [sys.executable, "-m", "brcd_lightning.train", "-m", *options.values(), f"hydra.sweep.dir={path}"]
    command += ["trainer.enable_progress_bar=false", "trainer.accelerator=cpu"]
    path.mkdir(parents=True, exist_ok=True)
    with (path / "sweep.log").open("w") as log:
        log.write(" ".join(command) + "\n")
        log.flush()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code == 0:
        (path / DONE).touch()
    return path, code


def chosen(folder: Path, name: str) -> list[str]:
    """Overrides of an entry: the options of the best validation in its tuning, and its own."""
    tuned, own = ENTRIES[name]
    if tuned is None:
        return own
    tried = [run for number in range(len(GRIDS[tuned])) for run in runs(folder / "tuning" / f"{tuned}_{number}")]
    best = max(tried, key=lambda run: run["validation"])
    keys = dict.fromkeys(override.partition("=")[0] for grid in GRIDS[tuned] for override in grid)
    values = [f"{key}={best['method'][key.removeprefix('kd_method.')]}" for key in keys if key != "kd_method"]
    return [f"kd_method={best['row']['kd_method']}", *values, *own]


def runs(folder: Path) -> list[dict[str, Any]]:
    """Records of the finished jobs of a sweep."""
    return [read_results(path.parent) | {"path": path.parent} for path in sorted(folder.glob("[0-9]*/" + DONE))]


def average_precisions(run: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Average precision of every test query, by paradigm."""
    tensors, bits = load_file(run["path"] / "codes.safetensors"), run["row"]["bits"]
    codes = {name.removesuffix("_packed"): unpack(rows, bits) for name, rows in tensors.items() if "_packed" in name}
    pairs = {"sshp": ("student_query", "student_database"), "ashp": ("student_query", "teacher_database")}
    return {
        paradigm: average_precisions_by_ties(
            codes[query],
            codes[database],
            tensors["query_labels"],
            tensors["database_labels"],
            run["metric_protocol"]["k"],
            ties=("stable",),
        )["stable"]
        for paradigm, (query, database) in pairs.items()
    }


def table(folder: Path) -> None:
    """Prints Markdown: mean and standard deviation over the seeds, and BRCD minus each method over the same queries."""
    cells = {(name, bits): {} for name in ENTRIES for bits in BITS}
    for name in ENTRIES:
        for run in runs(folder / name):
            cells[name, run["row"]["bits"]][run["row"]["seed"]] = run
    for bits in BITS:
        teacher = [run["metrics"]["test/map_teacher"] for run in cells["none", bits].values()]
        print(f"\n{bits} bits; teacher on both sides {spread(teacher)}\n")
        print("| method | SSHP | ASHP | BRCD minus it, SSHP | BRCD minus it, ASHP |\n|---|---|---|---|---|")
        reference = {seed: average_precisions(run) for seed, run in cells["brcd", bits].items()}
        for name in ENTRIES:
            found = cells[name, bits]
            if not found:
                continue
            scores = [spread([run["metrics"][f"test/map_{p}"] for run in found.values()]) for p in ("sshp", "ashp")]
            differences = ["", ""]
            if name != "brcd" and found.keys() == reference.keys():
                own = {seed: average_precisions(run) for seed, run in found.items()}
                differences = [
                    difference(torch.stack([reference[s][p] - own[s][p] for s in own]).mean(dim=0))
                    for p in ("sshp", "ashp")
                ]
            options = ", ".join(option.removeprefix("kd_method.") for option in chosen(folder, name)[1:])
            print(f"| {name} ({options}) | {' | '.join(scores)} | {' | '.join(differences)} |")


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0:.4f}"


def difference(values: torch.Tensor) -> str:
    """Mean over queries with its 95 % interval."""
    low, high = bootstrap_interval(values)
    return f"{values.mean():+.4f} ({low:+.4f}, {high:+.4f})"


if __name__ == "__main__":
    main()
