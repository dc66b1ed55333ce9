"""The command ``brcd report DIR...``: tables and figures of any number of runs and sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from brcd_lightning.cli.command_parser import CommandParser, any_path, output_folder
from brcd_lightning.errors import ExitCode, InputError


def main(arguments: Sequence[str]) -> int:
    """Writes a report.

    Args:
        arguments: see ``brcd report --help``.

    Raises:
        InputError: for a folder without runs, or if the report cannot be written.
    """
    given = parser().parse_args(arguments)
    from brcd_lightning.report.write import write_report  # loads torch and matplotlib, which --help does not need

    try:
        written = write_report(given.folders, given.out)
    except OSError as error:
        place = error.filename or given.out
        raise InputError(f"{place}: {error.strerror or error}; choose another --out, or repair the folder.") from error
    Console(soft_wrap=True, highlight=False).print(f"Report: {written.resolve()}", markup=False)
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd report``."""
    parser = CommandParser(
        prog="brcd report",
        description="Writes report.html, the tables as Markdown, CSV and LaTeX, and the figures as PNG and SVG.",
    )
    parser.add_argument(
        "folders", nargs="+", type=any_path, metavar="DIR", help="runs, sweeps or latencies, at any depth"
    )
    parser.add_argument(
        "--out", type=output_folder, default=Path("outputs/report"), metavar="DIR", help="default: %(default)s"
    )
    return parser
