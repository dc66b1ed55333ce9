"""The command ``brcd collect DIR``: the table of a sweep, including one that is still running or has partly failed."""

from __future__ import annotations

from collections.abc import Sequence

from brcd_lightning.cli.command_parser import CommandParser, any_path
from brcd_lightning.errors import ExitCode, InputError


def main(arguments: Sequence[str]) -> int:
    """Prints the table of a sweep and writes it to ``summary.csv`` in its folder.

    Args:
        arguments: see ``brcd collect --help``.

    Raises:
        InputError: for a folder without jobs of a sweep.
    """
    folder = parser().parse_args(arguments).folder.resolve()
    from brcd_lightning.report.collect import summarise  # loads torch, which --help does not need
    from brcd_lightning.report.runs import run_folders

    if not run_folders([folder]):
        raise InputError(f"{folder} holds no jobs of a sweep (folders with .hydra inside).")
    summarise(folder)
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd collect``."""
    parser = CommandParser(
        prog="brcd collect", description="Prints the table of a sweep so far, and writes it to DIR/summary.csv."
    )
    parser.add_argument("folder", type=any_path, metavar="DIR", help="folder of the sweep")
    return parser
