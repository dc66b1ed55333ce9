"""The command ``brcd dedup INDEX``: groups of images that look alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from brcd_lightning.cli.command_parser import DISTANCE, CommandParser, any_path
from brcd_lightning.errors import ExitCode


def main(arguments: Sequence[str]) -> int:
    """Prints groups of near-duplicates.

    Args:
        arguments: see ``brcd dedup --help``.

    Raises:
        InputError: for a folder that is not an index.
    """
    given = parser().parse_args(arguments)
    from brcd_lightning.deployment.image_index.image_index import ImageIndex
    from brcd_lightning.deployment.image_index.verification import (
        near_duplicates,
    )  # these load torch, which --help does not need

    groups = near_duplicates(ImageIndex.open(given.index), given.max_distance)
    if given.json:
        sys.stdout.write(json.dumps(groups, indent=1) + "\n")
        return ExitCode.OK
    sys.stdout.write("\n".join("".join(f"{path}\n" for path in group) for group in groups))
    images = sum(map(len, groups))
    sys.stderr.write(f"{len(groups):,} groups of {images:,} images, at most {given.max_distance} bits apart\n")
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd dedup``."""
    parser = CommandParser(
        prog="brcd dedup",
        description="Prints groups of images whose codes are linked by steps of at most D bits, the largest group "
        "first: a line for each image, an empty line between groups.",
    )
    parser.add_argument("index", type=any_path, metavar="INDEX", help="folder of the index")
    parser.add_argument("--max-distance", type=DISTANCE, default=0, metavar="D", help="Hamming distance (default: 0)")
    parser.add_argument("--json", action="store_true", help="print a list of groups as JSON")
    return parser
