"""wandb dashboards as code: a workspace that compares runs while they train, and a report of a finished grid.

    pip install 'brcd_lightning[dashboards]'
    python experiments/wandb/dashboards.py ENTITY PROJECT             # saves both, prints their addresses
    python experiments/wandb/dashboards.py ENTITY PROJECT --dry-run   # prints what they hold; needs no network

Runs are those of ``logger=wandb``: their group is the cell of a table without its seed, so that curves are means over
seeds; their job type is the stage.
"""

from __future__ import annotations

import argparse

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

SSHP, ASHP = "test/map_sshp", "test/map_ashp"
OPTIONS = ("kd_method.alpha", "kd_method.delta", "kd_method.tau", "kd_method.weight")


def main() -> None:
    """Reads the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("entity")
    parser.add_argument("project")
    parser.add_argument("--dry-run", action="store_true", help="print what they hold, save nothing")
    given = parser.parse_args()
    boards = workspace(given.entity, given.project), report(given.entity, given.project)
    for board in boards:
        print(outline(board) if given.dry_run else board.save().url)


def outline(board: ws.Workspace | wr.Report) -> str:
    """The titles of a board's parts and panels, one a line."""
    if isinstance(board, ws.Workspace):
        parts = [(section.name, section.panels) for section in board.sections]
    else:
        parts = [("", block.panels) if isinstance(block, wr.PanelGrid) else (block.text, []) for block in board.blocks]
    lines = [board.name if isinstance(board, ws.Workspace) else board.title]
    for name, panels in parts:
        lines += [f"  {name}"] * bool(name) + [f"    {type(panel).__name__}: {panel.title}" for panel in panels]
    return "\n".join(lines)


def workspace(entity: str, project: str) -> ws.Workspace:
    """Panels for runs that train: validation, scores, masks, losses and retrieved images."""
    sections = [
        ws.Section(name="Validation", panels=[curve("val/map_sshp"), curve("val/map_ashp")], is_open=True),
        ws.Section(name="SSHP against ASHP", panels=[*scores(), paradigms(), options()], is_open=True),
        ws.Section(
            name="Clusters and bits",
            panels=[media("teacher/bit_masks"), media("teacher/clusters"), curve("train/bit_bias")],
        ),
        ws.Section(name="Distillation", panels=[curve("train/kd_agreement"), curve("train/kd_offset_positives")]),
        ws.Section(name="Losses", panels=[curve("train/loss")]),
        ws.Section(name="Retrieval", panels=[media("test/gallery"), media("test/table")]),
    ]
    students = ws.RunsetSettings(filters="Metric('JobType') = 'student'", groupby=[ws.Metric("Group")])
    return ws.Workspace(entity=entity, project=project, name="Methods", sections=sections, runset_settings=students)


def report(entity: str, project: str) -> wr.Report:
    """A finished grid: scores by method, paradigms against each other, options, pictures."""
    students = {"entity": entity, "project": project, "filters": "Metric('JobType') = 'student'"}
    cells = wr.Runset(name="cells (seeds joined)", groupby=["Group"], **students)
    runs = wr.Runset(name="runs", **students)
    blocks = [
        wr.H1("Distillation methods"),
        wr.P("Means over seeds of mAP on test queries; the epoch and all options are chosen on validation queries."),
        wr.PanelGrid(runsets=[cells], panels=[*scores(), paradigms()]),
        wr.H1("Options"),
        wr.P(
            "Validation mAP against the options of the distillation method, one line for each run of a sweep or search."
        ),
        wr.PanelGrid(runsets=[runs], panels=[options()]),
        wr.H1("Clusters, bits and pictures"),
        wr.PanelGrid(runsets=[runs], panels=[media("teacher/bit_masks"), media("test/gallery")]),
    ]
    return wr.Report(entity=entity, project=project, title="Distillation in Hamming space", blocks=blocks)


def curve(metric: str) -> wr.LinePlot:
    """A metric over the epochs, seeds joined."""
    return wr.LinePlot(title=metric, x="epoch", y=[metric], groupby="Group", groupby_rangefunc="stddev")


def scores() -> list[wr.BarPlot]:
    """Test mAP of both paradigms by cell."""
    return [wr.BarPlot(title=metric, metrics=[metric], groupby="Group", orientation="h") for metric in (SSHP, ASHP)]


def paradigms() -> wr.ScatterPlot:
    """Both paradigms of every run."""
    return wr.ScatterPlot(title="SSHP against ASHP", x=wr.SummaryMetric(SSHP), y=wr.SummaryMetric(ASHP))


def options() -> wr.ParallelCoordinatesPlot:
    """Options of the method and what they led to on validation queries."""
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(option)) for option in OPTIONS]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric("val/map_sshp.max")))
    return wr.ParallelCoordinatesPlot(title="options", columns=columns)


def media(key: str) -> wr.MediaBrowser:
    """Pictures or tables that runs logged."""
    return wr.MediaBrowser(title=key, media_keys=[key], num_columns=2)


if __name__ == "__main__":
    main()
