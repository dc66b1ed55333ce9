"""The command ``brcd add INDEX IMAGES``: adds images to an index."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from brcd_lightning.cli.allocator import keep_freed_memory
from brcd_lightning.cli.command_parser import CommandParser, any_path
from brcd_lightning.cli.encoding_arguments import add_encoding_arguments, encode_options, told, told_unreadable
from brcd_lightning.errors import ExitCode


def main(arguments: Sequence[str]) -> int:
    """Adds images to an index, encoded by its own model.

    Args:
        arguments: see ``brcd add --help``.

    Raises:
        InputError: for images outside the root of the index.
    """
    given = parser().parse_args(arguments)
    options = encode_options(given)
    from brcd_lightning.data.image_names import image_names  # these load torch, which --help does not need
    from brcd_lightning.deployment.image_index.bundle import read_manifest
    from brcd_lightning.deployment.image_index.changes import add_images

    keep_freed_memory()
    folder = given.index
    read_manifest(folder)
    done = add_images(folder, image_names(given.images, given.column), options)
    lines = [] if done.encoded is None else [told(done.encoded), *told_unreadable(done.encoded.unreadable)]
    lines += [f"{done.kept:,} were already in the index"] if done.kept else []
    sys.stdout.write("\n".join([*lines, f"{len(done.changed):,} images are in {folder} now"]) + "\n")
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd add``."""
    parser = CommandParser(
        prog="brcd add",
        description="Adds images to an index, encoded by the index's own model. Paths already in it are kept.",
    )
    parser.add_argument("index", type=any_path, metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "images", type=any_path, metavar="IMAGES", help="folder, image, or list, below the index's root"
    )
    add_encoding_arguments(parser)
    return parser
