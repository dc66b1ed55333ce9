"""The command ``brcd push CODES --to ADDRESS``: writes codes into a database."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from brcd_lightning.cli.command_parser import CommandParser, any_path
from brcd_lightning.errors import ExitCode


def main(arguments: Sequence[str]) -> int:
    """Pushes a folder of codes into a database atomically.

    Args:
        arguments: see ``brcd push --help``.

    Raises:
        InputError: for a folder without codes, a table that already exists, or a database that cannot be reached.
    """
    given = parser().parse_args(arguments)
    from brcd_lightning.deployment.databases.addresses import shown  # these load torch, which --help does not need
    from brcd_lightning.deployment.databases.database import TABLE
    from brcd_lightning.deployment.databases.push import push_codes

    table = TABLE if given.table is None else given.table
    done = push_codes(given.codes, given.to, table=table, kind=given.kind, replace=given.replace)
    told = done.description
    left_out = f"; left out, {done.left_out:,} that could not be read" if done.left_out else ""
    sys.stdout.write(
        f"Pushed {told.count:,} codes of {told.bits} bits ({told.kind}) in {done.seconds:.1f} s{left_out}\n"
        f"They are in table {table} of {shown(given.to)}\n"
    )
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd push``."""
    parser = CommandParser(
        prog="brcd push",
        description="Writes the codes of brcd encode into a table of PostgreSQL with pgvector, or of LanceDB. The "
        "table appears only as a whole; an interrupted push leaves nothing.",
    )
    parser.add_argument("codes", type=any_path, metavar="CODES", help="folder of codes from brcd encode")
    parser.add_argument(
        "--to",
        required=True,
        metavar="ADDRESS",
        help="postgresql://USER@HOST/DATABASE (the password from PGPASSWORD or ~/.pgpass) or lance://FOLDER",
    )
    parser.add_argument("--table", help="name of the table (default: brcd_codes)")
    parser.add_argument(
        "--kind", help="flat (default, exact); approximate: hnsw of PostgreSQL, ivf of LanceDB, see docs/search.md"
    )
    parser.add_argument("--replace", action="store_true", help="replace an earlier push to that table")
    return parser
