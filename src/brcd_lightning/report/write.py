"""A folder with all tables and figures that some runs can fill, and the page that shows them."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.progress import track

from brcd_lightning.errors import InputError
from brcd_lightning.files import atomic_path, source_commit, write_text
from brcd_lightning.report.comparisons import comparison_tables, runs_table
from brcd_lightning.report.figures import cluster_counts, cost, redundancy, retrieval, scores, spaces
from brcd_lightning.report.latencies import find_latencies, latency_table
from brcd_lightning.report.page import Section, page
from brcd_lightning.report.records import Records
from brcd_lightning.report.render import RENDERINGS
from brcd_lightning.report.runs import UnfilledError
from brcd_lightning.report.style import save_figure

PAGE, FILES = "report.html", "files.txt"
_SHORT = 12  # of a commit


@dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    Args:
        name: of its files.
        section: where it stands.
        caption: below it.
        draw: makes it from the records.
    """

    name: str
    section: str
    caption: str
    draw: Callable[[Records], Figure]


_SCORES, _SPACES, _FOUND, _CLUSTERS = "Scores", "Teacher and student", "What is found", "Bits and clusters"
DRAWINGS = (
    Drawing("map_by_bits", _SCORES, "mAP against code length", scores.map_by_bits),
    Drawing("map_by_backbones", _SCORES, "mAP with other backbones (Fig. 4 of the paper)", scores.map_by_backbones),
    Drawing("map_by_options", _SCORES, "mAP against tuned options (Fig. 5b)", scores.map_by_options),
    Drawing("alignment", _SPACES, "ISD and NRA of every method (Fig. 5a)", spaces.alignment),
    Drawing("shared_space", _SPACES, "Teacher's and student's codes in one space (Fig. 7)", spaces.shared_space),
    Drawing("precision_recall", _FOUND, "Precision and recall within every Hamming radius", retrieval.precision_recall),
    Drawing("classes", _FOUND, "mAP of each class", retrieval.classes),
    Drawing("confusion", _FOUND, "Classes of the results by the class of the query", retrieval.confusion),
    Drawing("bit_frequencies", _CLUSTERS, "Bits inside a class and a cluster (Fig. 3)", redundancy.bit_frequencies),
    Drawing("bit_masks", _CLUSTERS, "Expectations and masks of all clusters, Eqs. (8) and (9)", redundancy.bit_masks),
    Drawing(
        "offset_positives",
        _CLUSTERS,
        "Offset positives by the number of clusters (Fig. 6)",
        cluster_counts.offset_positives,
    ),
    Drawing("number_of_clusters", _CLUSTERS, "Elbow and silhouette", cluster_counts.number_of_clusters),
)
_COST, _RUNS = "Cost", "Runs"


def write_report(folders: Sequence[Path], target: Path) -> Path:
    """Reads runs and latencies below some folders and writes everything that they fill.

    Args:
        folders: of runs, sweeps and latencies, at any depth.
        target: folder of the report; tables and figures of an earlier one are replaced.

    Returns:
        Path of the page.

    Raises:
        InputError: if a folder does not exist or nothing below the folders can be shown.
    """
    records = Records(folders)
    latencies, problems = find_latencies(folders)
    if not records.runs and not latencies:
        reasons = "".join(f"\n  {reason}" for reason in [*records.problems, *problems])
        raise InputError(f"no finished run and no latency below {', '.join(map(str, folders))}.{reasons}")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; the report needs a folder.")
    tables = {_SCORES: comparison_tables(records), _RUNS: [runs_table(records)] if records.runs else []}
    tables[_COST] = [
        latency_table(record, f"table3_{number + 1}" if len(latencies) > 1 else "table3")
        for number, record in enumerate(latencies)
    ]
    figures, unfilled = _draw(records, _drawings(latencies), target / "figures")
    figures[_FOUND] = [*figures.get(_FOUND, []), *_galleries(records, target / "figures")]
    written = [path for each in figures.values() for _, png in each for path in (png, png.with_suffix(".svg"))]
    for table in [table for each in tables.values() for table in each]:
        for suffix, rendered in RENDERINGS.items():
            written.append(target / "tables" / f"{table.name}.{suffix}")
            write_text(written[-1], rendered(table))
    sections = [
        Section(name, tables.get(name, []), figures.get(name, []))
        for name in (_SCORES, _SPACES, _FOUND, _CLUSTERS, _COST, _RUNS)
        if tables.get(name) or figures.get(name)
    ]
    left_out = [*records.problems, *problems]
    sections.append(Section("Not shown", remarks=[*left_out, *unfilled] or ["Everything is shown."]))
    write_text(target / PAGE, page("Report", _summary(records, folders), sections))
    _forget_earlier(target, {path.relative_to(target).as_posix() for path in written})
    return target / PAGE


def _forget_earlier(target: Path, written: Set[str]) -> None:
    """Removes what an earlier report wrote here and this one did not, and nothing else: runs may lie here too."""
    earlier = (target / FILES).read_text(encoding="utf-8").splitlines() if (target / FILES).is_file() else []
    for name in earlier:
        if name not in written and re.fullmatch(r"(figures|tables)/\w+\.(png|svg|md|csv|tex)", name):
            (target / name).unlink(missing_ok=True)
    write_text(target / FILES, "\n".join(sorted(written)) + "\n")


def _drawings(latencies: Sequence[cost.Latency]) -> list[Drawing]:
    caption = "Cost of a query against mAP, and what each student saves and loses"
    extra = [Drawing("cost_of_queries", _COST, caption, lambda records: cost.cost_of_queries(records, latencies))]
    for number, latency in enumerate(latencies):
        name = f"latency_{number + 1}" if len(latencies) > 1 else "latency"
        caption = "Encoding and searching by batch size (Table 3)"
        extra.append(Drawing(name, _COST, caption, lambda _, latency=latency: cost.latency_curves(latency)))
    return [*DRAWINGS, *extra]


def _draw(
    records: Records, drawings: Sequence[Drawing], folder: Path
) -> tuple[dict[str, list[tuple[str, Path]]], list[str]]:
    """Draws and saves figures.

    Returns:
        Caption and PNG of the figures of each section, and a remark for each figure that the data cannot fill: too few
        runs (`UnfilledError`) or a damaged file (`InputError`). Any other exception is a bug and is not caught.
    """
    figures: dict[str, list[tuple[str, Path]]] = {}
    unfilled = []
    for drawing in track(drawings, "Drawing", transient=True):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Number of distinct clusters")  # of tiny data
                figure = drawing.draw(records)
        except (UnfilledError, InputError) as error:
            unfilled.append(f"{drawing.name} ({drawing.caption}): {error}")
            continue
        figures.setdefault(drawing.section, []).append((drawing.caption, save_figure(figure, folder, drawing.name)))
    return figures, unfilled


def _galleries(records: Records, folder: Path) -> list[tuple[str, Path]]:
    """Copies of the galleries of the best student and of the weakest, by validation."""
    if not records.runs:
        return []
    cells = sorted(records.reference().items(), key=lambda item: item[1].validation)
    shown: list[tuple[str, Path]] = []
    taken: list[Path] = []
    for name, (label, cell) in {"gallery_best": cells[-1], "gallery_weakest": cells[0]}.items():
        source = cell.first.folder / "gallery.png"
        if source.is_file() and source not in taken:
            taken.append(source)
            with atomic_path(folder / f"{name}.png") as temporary:
                shutil.copyfile(source, temporary)
            shown.append((f"Queries of {label}, the {name.removeprefix('gallery_')} student", folder / f"{name}.png"))
    return shown


def _summary(records: Records, folders: Sequence[Path]) -> list[str]:
    commits = sorted({str(run.results.get("commit"))[:_SHORT] for run in records.runs})
    devices = sorted({str(run.results.get("device")) for run in records.runs})
    names = ", ".join(folder.name for folder in folders)
    lines = [f"{len(records.runs)} finished runs in {len(records.cells)} cells from {names}."]
    if records.problems:
        lines.append(f"{len(records.problems)} folders or files are left out; the last section says why.")
    if records.runs:
        lines.append(f"Runs made at commit {', '.join(commits)} on {', '.join(devices)}.")
    return [*lines, f"Report made at commit {str(source_commit())[:_SHORT]}."]
