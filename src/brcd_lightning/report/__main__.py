"""The command ``python -m brcd_lightning.report DIR...``: tables and figures of any number of runs and sweeps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from brcd_lightning.errors import InputError
from brcd_lightning.process import end_process


def main(arguments: Sequence[str]) -> int:
    """Reads the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m brcd_lightning.report",
        description="Writes report.html, the tables as Markdown, CSV and LaTeX, and the figures as PNG and SVG.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="runs, sweeps or latencies, at any depth")
    parser.add_argument("--out", type=Path, default=Path("outputs/report"), metavar="DIR", help="default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        from brcd_lightning.report.write import write_report  # noqa: PLC0415 (slow; --help needs none of it)

        written = write_report(given.folders, given.out)
    except (InputError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    Console(soft_wrap=True, highlight=False).print(f"Report: {written.resolve()}", markup=False)
    return 0


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
