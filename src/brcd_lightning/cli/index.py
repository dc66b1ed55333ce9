"""The command ``brcd index MODEL IMAGES --out INDEX``: an index of images that ``brcd search`` searches."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from brcd_lightning.cli.allocator import keep_freed_memory
from brcd_lightning.cli.command_parser import CommandParser, any_path, output_folder
from brcd_lightning.cli.encoding_arguments import (
    add_encoding_arguments,
    add_model_argument,
    add_onnx_argument,
    by_onnx,
    encode_options,
    told,
    told_unreadable,
    write_unreadable,
)
from brcd_lightning.errors import ExitCode

UNREADABLE = "unreadable.txt"


def main(arguments: Sequence[str]) -> int:
    """Encodes images and indexes their codes; interrupted, the same command continues.

    Args:
        arguments: see ``brcd index --help``.

    Raises:
        InputError: for a wrong model, no images, or an index that already exists.
    """
    keep_freed_memory()
    given = parser().parse_args(arguments)
    options, out = encode_options(given), given.out
    from brcd_lightning.data.image_names import image_names  # these load torch, which --help does not need
    from brcd_lightning.deployment.encoding.encoder import HashEncoder
    from brcd_lightning.deployment.image_index.changes import build_index
    from brcd_lightning.deployment.image_index.verification import verify
    from brcd_lightning.options import require_option
    from brcd_lightning.search.kinds import Kind

    require_option("--kind", given.kind, Kind)
    images = image_names(given.images, given.column)
    student, teacher = HashEncoder.from_pretrained(given.model), None
    if given.paradigm == "ashp":
        teacher = by_onnx(HashEncoder.from_pretrained(given.model, role="teacher"), given.onnx)
    else:
        student = by_onnx(student, given.onnx)
    done = build_index(out, student, images, teacher=teacher, kind=given.kind, options=options)
    if done.encoded is not None:
        write_unreadable(out / UNREADABLE, done.encoded.unreadable)
        sys.stdout.write("\n".join([told(done.encoded), *told_unreadable(done.encoded.unreadable)]) + "\n")
    measured, index = verify(done.changed), done.changed
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    sys.stdout.write(
        f"{len(index):,} images, {index.manifest.bits} bits, {index.manifest.kind}, {size:,} bytes with the model\n"
        f"Recall {measured.recall:.4f} of the {measured.k} nearest codes; one query takes {measured.p50_ms:.2f} ms\n"
        f"Index: {out}\n"
    )
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd index``."""
    parser = CommandParser(
        prog="brcd index",
        description="Encodes images and indexes their codes. The index is a folder that also holds the model. "
        "Interrupted, the same command continues.",
    )
    add_model_argument(parser)
    parser.add_argument("images", type=any_path, metavar="IMAGES", help="folder, or list (text, .csv, .parquet)")
    parser.add_argument("--out", type=output_folder, required=True, metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--paradigm", default="sshp", choices=("sshp", "ashp"), help="ashp: the teacher encodes the images, slower"
    )
    parser.add_argument(
        "--kind", default="auto", help="auto (default), flat, sharded, ivf, hnsw or multi_hash, see docs/search.md"
    )
    add_onnx_argument(parser)
    add_encoding_arguments(parser)
    return parser
