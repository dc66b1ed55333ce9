"""The fair fight: every distillation method on one testbed, each searched with the same budget on validation queries.

    python experiments/fair_fight.py search cifar_testbed OUTPUT dataset.root=CIFAR10
    python experiments/fair_fight.py fight cifar_testbed OUTPUT dataset.root=CIFAR10
    python experiments/fair_fight.py table cifar_testbed OUTPUT

``search`` gives every method `TRIALS` trials of Optuna (seed 0, by the best validation mAP@1000 in SSHP), for each code
length apart. ``fight`` trains each with the best options found, on `SEEDS` that searched nothing. Both are lists of
ordinary multiruns, two at a time with one thread each, and continue where they were stopped. ``table`` prints Markdown:
mean and standard deviation over the seeds, seconds of training, and each method against the best inductive one,
with intervals over queries and seeds. ``--bits`` and ``--entries`` choose code lengths and rows; further arguments are
overrides of all commands.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from brcd_lightning.codes import unpack
from brcd_lightning.metrics import average_precisions_by_ties, bootstrap_over_seeds, holm
from brcd_lightning.results.record import marks, read_results
from brcd_lightning.results.run_files import DONE

TRIALS, SEEDS, EPOCHS = 12, (1, 2, 3, 4, 5), 30
PARADIGMS = {"sshp": ("student_query", "student_database"), "ashp": ("student_query", "teacher_database")}


def log(low: float, high: float) -> str:
    """A logarithmic interval of a search."""
    return f"tag(log,interval({low},{high}))"


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        options: of every run.
        space: what is searched, by key.
    """

    options: Sequence[str]
    space: dict[str, str] = field(default_factory=dict)


LEARNING = {"student.learning_rate": log(1e-4, 1e-2), "student.head": "choice(mlp,linear)"}
"""Searched for whatever trains."""
OBJECTIVE = {"student.hashing_weight": "choice(0.0,1.0)"}
"""Searched for whatever distils."""
WARM = {"student.learning_rate": log(1e-5, 1e-3)} | OBJECTIVE
"""Searched for whatever starts from a closed form."""
BRCD = {
    "kd_method.weight": log(0.3, 300),
    "kd_method.tau": "interval(0.1,0.6)",
    "kd_method.alpha": "interval(0.5,1.0)",
    "kd_method.delta": "interval(0.05,0.5)",
}
KL = {"kd_method.weight": log(0.03, 30), "kd_method.temperature": log(1, 16)}
COSINE = {"kd_method.weight": log(1, 1000)}
OTHERS = {
    "kl": KL,
    "sp": {"kd_method.weight": log(100, 1e6)},
    "pkt": {"kd_method.weight": log(100, 1e7)},
    "rkd": {"kd_method.weight": log(0.03, 30)},
    "crd": {"kd_method.weight": log(0.03, 100), "kd_method.temperature": log(0.02, 0.5)},
    "sskd": {"kd_method.weight": log(1, 1e4), "kd_method.temperature": log(0.1, 1)},
    "crcd": {"kd_method.weight": log(0.1, 1000), "kd_method.temperature": log(0.02, 0.5)},
    "packd": {"kd_method.weight": log(0.1, 100), "kd_method.temperature": log(0.03, 0.5)},
    "brcd": BRCD,
    "cosine": COSINE,
}
START = ["student.head=linear", "student.init=lsq"]
ITQ = "hashing_model@teacher.hashing_model=itq"
LSQ = ["kd_method=lsq", "student.head=linear"]

ENTRIES = {
    "lsq": Entry(LSQ),
    "lsq_itq": Entry([*LSQ, ITQ]),
    "lsq_database": Entry([*LSQ, "student.train_on=database"]),
    "lsq_itq_database": Entry([*LSQ, ITQ, "student.train_on=database"]),
    "none": Entry(["kd_method=none"], LEARNING),
    **{name: Entry([f"kd_method={name}"], LEARNING | OBJECTIVE | space) for name, space in OTHERS.items()},
    "brcd_warm": Entry(["kd_method=brcd", *START], WARM | BRCD),
    "cosine_warm": Entry(["kd_method=cosine", *START], WARM | COSINE),
    "kl_warm": Entry(["kd_method=kl", *START], WARM | KL),
    "brcd_itq_warm": Entry(["kd_method=brcd", *START, ITQ], WARM | BRCD),
}
"""Rows of the table by name; methods that train nothing have nothing to search."""


def main() -> None:
    """Reads the command."""
    parser = command_line(__doc__, ("search", "fight", "table"), "--entries", list(ENTRIES))
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 32])
    args = parser.parse_args()
    folder = args.output.resolve() / "fair_fight" / args.testbed
    entries = {name: ENTRIES[name] for name in args.entries}
    common = [f"+experiment={args.testbed}", f"output_dir={args.output.resolve()}", f"student.max_epochs={EPOCHS}"]
    common += ["student.patience=100", "float_queries=false", *args.overrides]
    for bits in args.bits:
        own = [*common, f"bits={bits}"]
        if args.command == "search":
            searching = ["hydra/sweeper=optuna", f"hydra.sweeper.trials={TRIALS}"]
            run_all(
                [
                    (
                        searched(folder, name, bits),
                        [*own, *entry.options, *searching, *(f"{key}={value}" for key, value in entry.space.items())],
                    )
                    for name, entry in entries.items()
                    if entry.space
                ],
                args.jobs,
            )
        elif args.command == "fight":
            seeds = f"seed={','.join(map(str, SEEDS))}"
            run_all(
                [
                    (fought(folder, name, bits), [*own, *entry.options, *chosen(folder, name, bits), seeds])
                    for name, entry in entries.items()
                ],
                args.jobs,
            )
        else:
            table(folder, bits)


def command_line(
    doc: str | None, commands: Sequence[str], choice: str, names: Sequence[str]
) -> argparse.ArgumentParser:
    """Arguments of this script and its like: a command, the testbed, the output folder, and which rows (`choice`)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=commands)
    parser.add_argument("testbed")
    parser.add_argument("output", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument(choice, nargs="+", choices=names, default=names)
    parser.add_argument("--jobs", type=int, default=2, help="multiruns at a time")
    return parser


def searched(folder: Path, name: str, bits: int) -> Path:
    """Folder of the search of an entry."""
    return folder / f"{bits}_search" / name


def fought(folder: Path, name: str, bits: int) -> Path:
    """Folder of the final runs of an entry."""
    return folder / f"{bits}" / name


def run_all(jobs: Sequence[tuple[Path, list[str]]], at_once: int) -> None:
    """Runs multiruns, some at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        for path, code in pool.map(_run, jobs):
            print(f"{path}: {'finished' if code == 0 else f'exit status {code}, see sweep.log there'}", flush=True)


def _run(job: tuple[Path, list[str]]) -> tuple[Path, int]:
    path, overrides = job
    if (path / DONE).exists():
        return path, 0
    command = [sys.executable, "-m", "brcd_lightning.train", "-m", *overrides, f"hydra.sweep.dir={path}"]
    command += ["resume=auto", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu"]
    path.mkdir(parents=True, exist_ok=True)
    with (path / "sweep.log").open("a") as log_file:
        log_file.write(" ".join(command) + "\n")
        log_file.flush()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=log_file, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode == 0:
        (path / DONE).touch()
    return path, done.returncode


def chosen(folder: Path, name: str, bits: int) -> list[str]:
    """The options of the best validation in the search of an entry, as overrides."""
    space = ENTRIES[name].space
    if not space:
        return []
    best = max(runs(searched(folder, name, bits)), key=lambda run: run["validation"])
    return [f"{key}={option(best, key)}" for key in space]


def option(run: dict[str, Any], key: str) -> Any:
    """The value of an option in the record of a run."""
    value = run["config"]
    for part in key.split("."):
        value = value[part]
    return value


def runs(folder: Path) -> list[dict[str, Any]]:
    """Records of the finished jobs of a multirun."""
    return [read_results(path.parent) | {"path": path.parent} for path in sorted(folder.glob("[0-9]*/" + DONE))]


def average_precisions(run: dict[str, Any], paradigm: str) -> torch.Tensor:
    """Average precision (Q,) of every test query."""
    tensors, bits = load_file(run["path"] / "codes.safetensors"), run["row"]["bits"]
    query, database = (unpack(tensors[f"{side}_packed"], bits) for side in PARADIGMS[paradigm])
    labels = tensors["query_labels"], tensors["database_labels"]
    return average_precisions_by_ties(query, database, *labels, run["metric_protocol"]["k"], ties=("stable",))["stable"]


def table(folder: Path, bits: int) -> None:
    """Prints Markdown."""
    cells = {name: {run["row"]["seed"]: run for run in runs(fought(folder, name, bits))} for name in ENTRIES}
    cells = {name: found for name, found in cells.items() if sorted(found) == list(SEEDS)}
    if not cells:
        return
    print(f"\n{bits} bits, {len(SEEDS)} seeds\n")
    print("| row | teacher | SSHP | ASHP | below the best, SSHP | below the best, ASHP | seconds | options |")
    print("|---|---|---|---|---|---|---|---|")
    below = {paradigm: differences(cells, paradigm) for paradigm in PARADIGMS}
    for name, found in cells.items():
        runs_ = list(found.values())
        scores = [spread([run["metrics"][f"test/map_{key}"] for run in runs_]) for key in ("teacher", "sshp", "ashp")]
        seconds = statistics.mean(run["timings"]["student_seconds"] for run in runs_)
        options = ", ".join(f"{key.rpartition('.')[2]} {_short(option(runs_[0], key))}" for key in ENTRIES[name].space)
        behind = [below[paradigm][name] for paradigm in PARADIGMS]
        cells_ = [f"{name}{marks(runs_[0])}", *scores, *behind, f"{seconds:.1f}", options]
        print(f"| {' | '.join(cells_)} |")


def differences(cells: dict[str, dict[int, dict[str, Any]]], paradigm: str) -> dict[str, str]:
    """Each row against the best one that saw the training images alone: mean, 95 % interval, and Holm's p value."""
    values = {
        name: torch.stack([average_precisions(found[seed], paradigm) for seed in SEEDS])
        for name, found in cells.items()
    }
    alike = [name for name, found in cells.items() if not found[SEEDS[0]]["transductive"]]
    best = max(alike, key=lambda name: values[name].mean())
    others = [name for name in values if name != best]
    behind = torch.stack([values[best] - values[name] for name in others])
    found = bootstrap_over_seeds(behind)
    corrected = holm([each.p_value for each in found])
    told = {best: "best"}
    for name, mean, each, p_value in zip(others, behind.mean(dim=(1, 2)), found, corrected, strict=True):
        told[name] = f"{mean:+.4f} ({each.low:+.4f}, {each.high:+.4f}) p {p_value:.3f}"
    return told


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
