"""The dashboards of experiments/wandb, built without a network: what they show is what runs log."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("wandb_workspaces", reason="needs wandb-workspaces, of the dev extra")
PATH = Path(__file__).parents[1] / "experiments" / "wandb" / "dashboards.py"
SOURCE = "\n".join(path.read_text() for path in (PATH.parents[2] / "src").rglob("*.py"))


@pytest.fixture(scope="module")
def dashboards():
    spec = importlib.util.spec_from_file_location("dashboards", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panels_of(dashboards):
    workspace, report = dashboards.workspace("me", "p"), dashboards.report("me", "p")
    inside = [panel for section in workspace.sections for panel in section.panels]
    return inside + [panel for block in report.blocks for panel in getattr(block, "panels", [])]


def test_the_workspace_is_valid_and_groups_seeds(dashboards):
    model = dashboards.workspace("me", "p")._to_model().model_dump_json()
    assert '"jobType"' in model
    assert '"group"' in model.lower()


def test_every_metric_and_option_shown_is_one_that_runs_log(dashboards):
    text = " ".join(str(panel) for panel in panels_of(dashboards))
    shown = set(re.findall(r"\b(?:train|val|test|teacher)/[a-z_]+", text))
    assert {"val/map_sshp", "test/map_ashp", "teacher/bit_masks", "test/gallery", "test/table"} <= shown
    for metric in shown:
        _stage, _, name = metric.partition("/")
        # Metrics are logged as a stage and a name, terms of a method with kd_ before their names.
        assert re.search(rf"\b(kd_)?{name.removeprefix('kd_')}\b", SOURCE), metric
    options = (PATH.parents[2] / "conf" / "kd_method" / "brcd.yaml").read_text()
    for option in dashboards.OPTIONS:
        assert re.search(rf"^{option.removeprefix('kd_method.')}:", options, re.MULTILINE)


def test_both_paradigms_and_the_options_of_a_search_are_compared(dashboards):
    kinds = {type(panel).__name__ for panel in panels_of(dashboards)}
    assert kinds == {"LinePlot", "BarPlot", "ScatterPlot", "ParallelCoordinatesPlot", "MediaBrowser"}


def test_the_command_prints_both_without_a_network():
    done = subprocess.run(
        [sys.executable, str(PATH), "me", "p", "--dry-run"], capture_output=True, text=True, check=True
    )
    assert "Methods" in done.stdout
    assert "Distillation in Hamming space" in done.stdout
    assert "ScatterPlot: SSHP against ASHP" in done.stdout
