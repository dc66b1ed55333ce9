"""The command ``brcd remove INDEX PATH ...``: takes images out of an index."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from brcd_lightning.cli.command_parser import CommandParser, any_path
from brcd_lightning.errors import ExitCode


def main(arguments: Sequence[str]) -> int:
    """Removes images from an index; the files stay.

    Args:
        arguments: see ``brcd remove --help``.

    Raises:
        InputError: for a path that the index does not hold.
    """
    given = parser().parse_args(arguments)
    from brcd_lightning.deployment.image_index.bundle import (
        read_manifest,
    )  # these load torch, which --help does not need
    from brcd_lightning.deployment.image_index.changes import remove_images

    folder = given.index
    before = read_manifest(folder).count
    now = remove_images(folder, given.paths)
    sys.stdout.write(f"Removed {before - len(now):,} images; {len(now):,} are in {folder} now\n")
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd remove``."""
    parser = CommandParser(
        prog="brcd remove", description="Takes images out of an index. The files themselves stay where they are."
    )
    parser.add_argument("index", type=any_path, metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="as brcd search prints it; a folder stands for all images below it"
    )
    return parser
