"""The command ``brcd encode MODEL IMAGES --out CODES``: packed codes of many images, as Parquet."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from brcd_lightning.cli.command_parser import CommandParser, any_path, output_folder
from brcd_lightning.cli.encoding_arguments import (
    add_encoding_arguments,
    add_model_argument,
    add_onnx_argument,
    by_onnx,
    encode_options,
    told,
    told_unreadable,
)
from brcd_lightning.errors import ExitCode


def main(arguments: Sequence[str]) -> int:
    """Encodes images into a folder of Parquet parts; interrupted, the same command continues.

    Args:
        arguments: see ``brcd encode --help``.

    Raises:
        InputError: for a wrong model, no images, or a folder of other codes.
    """
    parser = CommandParser(
        prog="brcd encode",
        description="Encodes images into a folder of Parquet parts (path, code, status). Interrupted, the same command "
        "continues. Several processes share the work with --shard 1/2 and --shard 2/2, on one machine or many.",
    )
    add_model_argument(parser)
    parser.add_argument("images", type=any_path, metavar="IMAGES", help="folder, or list (text, .csv, .parquet)")
    parser.add_argument("--out", type=output_folder, required=True, metavar="CODES", help="folder of the codes")
    parser.add_argument("--role", default="student", choices=("student", "teacher"), help="which network encodes")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--shard", default="1/1", metavar="i/n", help="encode the i-th of n shares (default: 1/1)")
    add_onnx_argument(parser)
    add_encoding_arguments(parser)
    given = parser.parse_args(arguments)
    options = encode_options(given)
    from brcd_lightning.data.image_names import image_names  # these load torch, which --help does not need
    from brcd_lightning.deployment.encoding.corpus import encode_corpus
    from brcd_lightning.deployment.encoding.encoder import HashEncoder

    images = image_names(given.images, given.column)
    encoder = HashEncoder.from_pretrained(given.model, role=given.role, device=given.device)
    encoder = by_onnx(encoder, given.onnx, any_precision=True)
    encoded = encode_corpus(encoder, images, given.out, options)
    lines = [told(encoded), *told_unreadable(encoded.unreadable)]
    lines += [] if encoded.finished else ["Other shares are missing still."]
    lines += [f"Codes are in {given.out}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return ExitCode.OK
