"""Checks and measurements on a machine with one GPU, in less than nine minutes and without network.

    python -m benchmarks.gpu                # writes gpu.json, and gpu.md with the same as a table
    python -m benchmarks.gpu --part steps --part cell

Tests run, and losses, gradients, clusters, metrics and searches are compared with the CPU. Half precision is checked.
Building a store, training steps, one cell of the paper's grid, evaluation and search are timed. Finally, two processes
share the GPU. Each part has its own process and time budget. A part that passed, or cannot run here, is not repeated
for the same source, device and versions, so that an interrupted check can be continued. Without a GPU, reduced forms of
the parts run on the CPU. The exit code is 1 if a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu.part import FULL, PARTS, SMALL, Part
from benchmarks.gpu.record import FAILED, PASSED, ROOT, SKIPPED, Findings, Outcome, Record, about_machine
from brcd_lightning.experiment.sweeps.warm_process import WarmProcess


def run_part(part: Part, size: str) -> Outcome:
    """Runs a part in a process that is ended when its time budget is used up."""
    started, budget_s = time.perf_counter(), part.budget_s * (1 if torch.cuda.is_available() else 3)
    with tempfile.TemporaryDirectory() as folder:
        found, log = Path(folder, "found.json"), Path(folder, "log.txt")
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths}
        arguments = [part.name, size, str(found), str(budget_s)]
        process = WarmProcess("benchmarks.gpu.part", arguments, ROOT, environment, log, log)
        code = process.wait(budget_s)
        if code is None:
            process.stop(grace_s=3)
        process.end()
        findings = Findings(**json.loads(found.read_text())) if found.exists() else Findings()
        said = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    seconds = time.perf_counter() - started
    if code == 0:
        return Outcome(FAILED if findings.failures else PASSED, seconds, findings)
    print("\n".join(said[-30:]), flush=True)
    reason = f"took longer than its {budget_s} s" if code is None else f"exit code {code}: {' '.join(said[-1:])}"
    return Outcome(FAILED, seconds, findings, reason[:500])


def main() -> int:
    """Runs all parts without a result, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the JSON file; the table lies beside it")
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS], help="run this one alone")
    parser.add_argument("--small", action="store_true", help="small sizes, as without a GPU")
    parser.add_argument("--fresh", action="store_true", help="run again what has passed, too")
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    size = (FULL if cuda and not options.small else SMALL).name
    record = Record(options.out, about_machine(size), options.fresh)
    for part in PARTS:
        if options.part and part.name not in options.part:
            continue
        if record.done(part.name):
            print(f"{part.name}: {record.outcomes[part.name].status} before", flush=True)
            continue
        if part.needs_cuda and not cuda:
            outcome = Outcome(SKIPPED, 0.0, Findings(), "torch sees no GPU here")
        else:
            outcome = run_part(part, size)
        record.add(part.name, outcome)
        print(f"{part.name}: {outcome.status} in {outcome.seconds:.0f} s {outcome.reason}", flush=True)
    print(f"\n{record.table()}\nWritten to {options.out} and {options.out.with_suffix('.md')}")
    return int(any(outcome.status == FAILED for outcome in record.outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
