"""The command ``brcd search INDEX IMAGE ...``: the nearest images of an index, or of a database."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from brcd_lightning.cli.command_parser import DISTANCE, RESULTS, THREADS, CommandParser, output_file
from brcd_lightning.cli.encoding_arguments import add_onnx_argument, by_onnx
from brcd_lightning.cli.index_arguments import add_index_arguments, opened_images
from brcd_lightning.errors import ExitCode, InputError

if TYPE_CHECKING:
    from brcd_lightning.deployment.image_index.searched import Found, SearchedImages


def main(arguments: Sequence[str]) -> int:
    """Searches an index for images.

    Args:
        arguments: see ``brcd search --help``.

    Raises:
        InputError: for an image that cannot be read, a folder that is not an index, or a model of another index.
    """
    given = parser().parse_args(arguments)
    if given.json and given.null:
        raise InputError("--json and -0 exclude each other; choose one.")
    from brcd_lightning.deployment.image_index.result_page import (
        write_page,
    )  # these load torch, which --help does not need
    from brcd_lightning.search.exact import use_threads

    use_threads(given.threads)
    with opened_images(given.index, given.table) as index:
        encoder = by_onnx(index.query_encoder(given.model), given.onnx).warm_up()
        found = {
            image: index.search(image, encoder, given.k, rescore=given.rescore, max_distance=given.max_distance)
            for image in given.images
        }
    sys.stdout.write(_text(found, given.json, given.null, index))
    for image, each in found.items():
        if each.empty_slots:
            sys.stderr.write(f"{image}: the approximate index found {each.empty_slots} fewer than asked for\n")
    if given.html is not None:
        write_page(given.html, index, found, rescored=given.rescore)
        sys.stderr.write(f"Page: {given.html}\n")
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd search``."""
    parser = CommandParser(prog="brcd search", description="Prints the nearest images of an index, the nearest first.")
    add_index_arguments(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image to search for")
    parser.add_argument("-k", type=RESULTS, default=10, help="results of a query (default: 10)")
    parser.add_argument("--rescore", action="store_true", help="rerank the best 10 k by real values of the query")
    parser.add_argument("--max-distance", type=DISTANCE, metavar="D", help="leave out results more than D bits away")
    add_onnx_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-0", dest="null", action="store_true", help="print only paths, each terminated by a null byte")
    parser.add_argument("--html", type=output_file, metavar="FILE", help="write a page with pictures of the results")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads of encoding and searching (default: 1)")
    return parser


def _text(found: dict[str, Found], as_json: bool, null: bool, index: SearchedImages) -> str:
    if null:
        return "".join(f"{index.root / hit.path}\0" for each in found.values() for hit in each.hits)
    if as_json:
        queries = [
            {
                "query": image,
                "ms": {"prepare": each.prepare_ms, "encode": each.encode_ms, "search": each.search_ms},
                "hits": [hit._asdict() for hit in each.hits],
                "empty_slots": each.empty_slots,
            }
            for image, each in found.items()
        ]
        return json.dumps({"root": str(index.root), "exact": index.exact, "queries": queries}, indent=1) + "\n"
    lines = []
    for image, each in found.items():
        lines.append(
            f"{image}: decode {each.prepare_ms:.1f} ms, encode {each.encode_ms:.1f} ms, search {each.search_ms:.2f} ms"
        )
        for hit in each.hits:
            score = "" if hit.score is None else f"  {hit.score:9.3f}"
            lines.append(f"{hit.distance:5d}{score}  {hit.path}")
    return "\n".join(lines) + "\n"
