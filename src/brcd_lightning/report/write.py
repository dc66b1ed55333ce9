"""Writes all tables and figures for which there are enough runs, and the page that shows them."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Sequence, Set
from pathlib import Path

from PIL import Image
from rich.progress import track

from brcd_lightning.errors import InputError
from brcd_lightning.report.catalog import COST, FOUND, LADDER, RUNS, SCORES, SECTIONS, AnyFigure, find_figures
from brcd_lightning.report.comparisons import comparison_tables, runs_table
from brcd_lightning.report.ladder import ladder_tables
from brcd_lightning.report.latencies import latency_table
from brcd_lightning.report.page import Section, page
from brcd_lightning.report.protocol import protocol_lines
from brcd_lightning.report.records import Records
from brcd_lightning.report.render import RENDERINGS
from brcd_lightning.report.runs import UnfilledError
from brcd_lightning.report.style import save_figure
from brcd_lightning.report.table import Table
from brcd_lightning.results.run_files import GALLERY
from brcd_lightning.storage.atomic import atomic_path, source_commit, write_text

PAGE, FILES = "report.html", "files.txt"
_SHORT = 12  # of a commit


def write_report(folders: Sequence[Path], target: Path) -> Path:
    """Reads runs and latencies below some folders and writes their report.

    Args:
        folders: folders of runs, sweeps and latencies, at any depth.
        target: folder of the report; tables and figures of an earlier one are replaced.

    Returns:
        Path of the page.

    Raises:
        InputError: if a folder does not exist or nothing below the folders can be shown.
    """
    records = Records(folders)
    if not records.runs and not records.latencies:
        reasons = "".join(f"\n  {reason}" for reason in records.problems)
        raise InputError(f"no finished run and no latency below {', '.join(map(str, folders))}.{reasons}")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; the report needs a folder.")
    tables = _tables(records)
    figures, unfilled = _draw(records, find_figures(), target / "figures")
    galleries, damaged = _galleries(records, target / "figures")
    figures[FOUND] = [*figures.get(FOUND, []), *galleries]
    written = [path for each in figures.values() for _, png in each for path in (png, png.with_suffix(".svg"))]
    for table in [table for each in tables.values() for table in each]:
        for suffix, rendered in RENDERINGS.items():
            written.append(target / "tables" / f"{table.name}.{suffix}")
            write_text(written[-1], rendered(table))
    sections = [
        Section(name, tables.get(name, []), figures.get(name, []))
        for name in SECTIONS
        if tables.get(name) or figures.get(name)
    ]
    remarks = [*records.problems, *damaged, *unfilled] or ["Everything is shown."]
    sections.append(Section("Not shown", remarks=remarks))
    write_text(target / PAGE, page("Report", _summary(records, folders), sections))
    _forget_earlier(target, {path.relative_to(target).as_posix() for path in written})
    return target / PAGE


def _tables(records: Records) -> dict[str, list[Table]]:
    """Tables by section."""
    latencies = records.latencies
    return {
        SCORES: comparison_tables(records),
        LADDER: ladder_tables(records),
        COST: [
            latency_table(record, f"table3_{number}" if len(latencies) > 1 else "table3")
            for number, record in enumerate(latencies, 1)
        ],
        RUNS: [runs_table(records)] if records.runs else [],
    }


def _forget_earlier(target: Path, written: Set[str]) -> None:
    """Removes the files of an earlier report that this one did not write. The folder may hold other files too."""
    listed = (target / FILES).read_bytes() if (target / FILES).is_file() else b""
    earlier = listed.decode("utf-8", "replace").splitlines()  # a damaged list may hold invalid bytes
    for name in earlier:
        if name not in written and re.fullmatch(r"(figures|tables)/\w+\.(png|svg|md|csv|tex)", name):
            (target / name).unlink(missing_ok=True)
    write_text(target / FILES, "\n".join(sorted(written)) + "\n")


def _draw(
    records: Records, declared: Sequence[AnyFigure], folder: Path
) -> tuple[dict[str, list[tuple[str, Path]]], list[str]]:
    """Draws and saves figures.

    Returns:
        Caption and PNG of the figures of each section, and a remark for each figure that the data cannot fill: too few
        runs (`UnfilledError`) or a damaged file (`InputError`). Any other exception is a bug and is not caught.
    """
    figures: dict[str, list[tuple[str, Path]]] = {}
    unfilled = []
    for each in track(declared, "Drawing", transient=True):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Number of distinct clusters")  # of tiny data
                drawn = each.named(records)
        except (UnfilledError, InputError) as error:
            unfilled.append(f"{each.name} ({each.caption}): {error}")
            continue
        for name, figure in drawn.items():
            figures.setdefault(each.section, []).append((each.caption, save_figure(figure, folder, name)))
    return figures, unfilled


def _galleries(records: Records, folder: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """Copies the galleries of the best and of the weakest student by validation.

    Returns:
        Caption and file of each, and a remark for each that is damaged.
    """
    if not records.runs:
        return [], []
    cells = sorted(records.reference().items(), key=lambda item: item[1].validation)
    shown: list[tuple[str, Path]] = []
    damaged: list[str] = []
    taken: list[Path] = []
    for name, (label, cell) in {"gallery_best": cells[-1], "gallery_weakest": cells[0]}.items():
        source = cell.first.folder / GALLERY
        if source.is_file() and source not in taken:
            taken.append(source)
            if not _is_picture(source):
                damaged.append(f"{source} is not a PNG file, or a damaged one.")
                continue
            with atomic_path(folder / f"{name}.png") as temporary:
                shutil.copyfile(source, temporary)
            shown.append((f"Queries of {label}, the {name.removeprefix('gallery_')} student", folder / f"{name}.png"))
    return shown, damaged


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # PIL's errors of damaged PNG files
        return False
    return True


def _summary(records: Records, folders: Sequence[Path]) -> list[str]:
    commits = sorted({str(run.results.get("commit"))[:_SHORT] for run in records.runs})
    devices = sorted({str(run.results.get("device")) for run in records.runs})
    names = ", ".join(folder.name for folder in folders)
    lines = [f"{len(records.runs)} finished runs in {len(records.cells)} cells from {names}."]
    if records.problems:
        lines.append(f"{len(records.problems)} folders or files are left out; the last section says why.")
    if records.runs:
        lines.append(f"Runs made at commit {', '.join(commits)} on {', '.join(devices)}.")
    return [*lines, *protocol_lines(records.runs), f"Report made at commit {str(source_commit())[:_SHORT]}."]
