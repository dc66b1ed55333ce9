"""The check of machines with a GPU, in the form that runs without one."""

import json
import sys
from importlib import import_module

import pytest
import torch

from conftest import ROOT, StartedCommand, run_command

sys.path.append(str(ROOT))  # the benchmarks are no part of the package

from benchmarks.gpu.part import PARTS
from benchmarks.gpu.record import FAILED, PASSED, SKIPPED, Findings, Outcome, Record, about_machine

MACHINE = {"device": "some GPU", "torch": "2.0"}


def test_all_parts_are_there_and_end_in_nine_minutes():
    assert sum(part.budget_s for part in PARTS) < 9 * 60
    for part in PARTS:
        assert callable(getattr(import_module(f"benchmarks.gpu.{part.module}"), part.name))


def test_what_has_passed_or_cannot_run_is_kept_for_the_same_machine(tmp_path):
    path = tmp_path / "gpu.json"
    record = Record(path, MACHINE, fresh=False)
    for name in (PASSED, SKIPPED, FAILED):
        findings = Findings(values=[("speed", 2.5, "m/s")], skipped={"way": "there | is none"}, failures=["too slow"])
        record.add(name, Outcome(name, 1.0, findings, f"it {name}"))
    again = Record(path, MACHINE, fresh=False)
    assert again.table() == record.table() == path.with_suffix(".md").read_text()
    assert [again.done(name) for name in (PASSED, SKIPPED, FAILED, "other")] == [True, True, False, False]
    for machine, fresh in (({**MACHINE, "torch": "2.1"}, False), (MACHINE, True)):
        assert not Record(path, machine, fresh).outcomes
    table = path.with_suffix(".md").read_text()
    for line in (
        "# some GPU",
        "| | speed | 2.5 m/s |",
        "| | way | skipped: there / is none |",
        "| | FAILED | too slow |",
    ):
        assert line in table.splitlines()


def test_the_source_is_part_of_what_results_hold_for():
    machine = about_machine("small")
    assert machine == about_machine("small")
    assert len(machine["source"]) == 12


@pytest.mark.slow
def test_the_small_form_is_interrupted_continues_and_is_not_run_again(tmp_path):
    path = tmp_path / "gpu.json"
    command = ["--small", "--out", path]
    first = StartedCommand(*command, cwd=ROOT, module="benchmarks.gpu")
    first.wait_for(lambda: len(kept(path)) >= 2)
    first.kill()
    done = kept(path)
    assert 2 <= len(done) < len(PARTS)
    second = run_command(*command, cwd=ROOT, module="benchmarks.gpu")
    assert second.returncode == 0, second.stdout + second.stderr
    parts = kept(path)
    assert list(parts) == [part.name for part in PARTS]
    assert all(parts[name] == done[name] for name in done)
    for name, part in parts.items():
        assert f"{name}: {part['status']} before" in second.stdout if name in done else part["status"] == PASSED
    if not torch.cuda.is_available():
        assert parts["tests"]["reason"] == "torch sees no GPU here"
        assert parts["steps"]["findings"]["skipped"]["CUDA graph"] == "measured on a GPU alone"
    third = run_command(*command, "--part", "cell", cwd=ROOT, module="benchmarks.gpu")
    assert third.returncode == 0
    assert third.stdout.startswith("cell: passed before")


def kept(path):
    return json.loads(path.read_text())["parts"] if path.exists() else {}
