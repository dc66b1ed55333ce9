"""The command ``brcd verify INDEX``: measures the recall and the speed of an index."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from brcd_lightning.cli.command_parser import RESULTS, THREADS, CommandParser, unit_interval
from brcd_lightning.cli.index_arguments import add_index_arguments, opened_images
from brcd_lightning.errors import ExitCode, InputError


def main(arguments: Sequence[str]) -> int:
    """Compares an index with an exact scan of its codes.

    Args:
        arguments: see ``brcd verify --help``.

    Raises:
        InputError: for a recall below the required one.
    """
    given = parser().parse_args(arguments)
    from brcd_lightning.deployment.image_index.verification import (
        verify,
    )  # these load torch, which --help does not need
    from brcd_lightning.search.exact import use_threads

    use_threads(given.threads)
    with opened_images(given.index, given.table) as index:
        if given.model is not None:
            index.query_encoder(given.model)
        found = verify(index, queries=given.queries, k=given.k)
    sys.stdout.write(
        f"{len(index):,} images, {index.kind}; {found.queries} queries, {found.k} results each, alone\n"
        f"recall {found.recall:.4f}, empty slots {found.empty_slots}\n"
        f"p50 {found.p50_ms:.2f} ms, p95 {found.p95_ms:.2f} ms; "
        f"exact scan p50 {found.exact_p50_ms:.2f} ms, p95 {found.exact_p95_ms:.2f} ms\n"
    )
    if found.recall < given.recall:
        raise InputError(
            f"recall {found.recall:.4f} is below {given.recall:g}; index the images again, or push the codes again, "
            "with another --kind, or lower --recall."
        )
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd verify``."""
    parser = CommandParser(
        prog="brcd verify",
        description="Checks the files of an index, and compares its answers with an exact scan of its codes. Results "
        "at equal distances count as equally correct.",
    )
    add_index_arguments(parser)
    parser.add_argument("--recall", type=unit_interval, default=0.99, help="minimum recall (default: 0.99)")
    parser.add_argument("-k", type=RESULTS, default=10, help="results of a query (default: 10)")
    parser.add_argument("--queries", type=RESULTS, default=200, help="number of queries (default: 200)")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads of a search (default: 1)")
    return parser
