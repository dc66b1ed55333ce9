"""The argument INDEX of commands that search: the folder of an index, or the address of a database."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brcd_lightning.cli.command_parser import any_path
from brcd_lightning.deployment.databases.addresses import is_address
from brcd_lightning.errors import InputError

if TYPE_CHECKING:
    from brcd_lightning.deployment.image_index.searched import SearchedImages


def index_or_address(text: str) -> Path | str:
    """The type of INDEX: a path, or the unchanged address of a database.

    Raises:
        argparse.ArgumentTypeError: for a path that cannot be reached.
    """
    return text if is_address(text) else any_path(text)


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds INDEX and the options that a database needs."""
    parser.add_argument(
        "index",
        type=index_or_address,
        metavar="INDEX",
        help="folder of the index, or address of a database that brcd push has filled",
    )
    parser.add_argument(
        "--model", help="model that encodes the queries: required for a database, for an index a student of its teacher"
    )
    parser.add_argument("--table", help="table of a database (default: brcd_codes)")


@contextmanager
def opened_images(index: Path | str, table: str | None) -> Iterator[SearchedImages]:
    """Opens the index or the database that INDEX names.

    Args:
        index: folder or address, from `index_or_address`.
        table: table of a database; None for the default table, and for a folder.

    Raises:
        InputError: if it is not an index, or the database cannot be reached.
    """
    from brcd_lightning.deployment.databases.database import TABLE  # these load torch, which --help does not need
    from brcd_lightning.deployment.databases.opener import open_images
    from brcd_lightning.deployment.image_index.image_index import ImageIndex

    if isinstance(index, str):
        with open_images(index, TABLE if table is None else table) as images:
            yield images
        return
    if table is not None:
        raise InputError(f"--table {table!r} is for databases, and {index} is a folder; leave it out.")
    yield ImageIndex.open(index)
