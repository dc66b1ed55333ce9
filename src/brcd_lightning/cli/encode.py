"""The command ``brcd encode MODEL IMAGES --out CODES``: packed codes of many images, as Parquet."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from brcd_lightning.cli.allocator import keep_freed_memory
from brcd_lightning.cli.command_parser import CommandParser, any_path, integer, output_folder
from brcd_lightning.cli.encoding_arguments import (
    add_encoding_arguments,
    add_model_argument,
    add_onnx_argument,
    by_onnx,
    encode_options,
    told,
    told_unreadable,
)
from brcd_lightning.errors import ExitCode, InputError

if TYPE_CHECKING:
    from brcd_lightning.deployment.encoding.corpus import Engine
    from brcd_lightning.deployment.encoding.encoder import HashEncoder
    from brcd_lightning.options import Role


def main(arguments: Sequence[str]) -> int:
    """Encodes images into a folder of Parquet parts; interrupted, the same command continues.

    Args:
        arguments: see ``brcd encode --help``.

    Raises:
        InputError: for a wrong model, no images, or a folder of other codes.
    """
    given = parser().parse_args(arguments)
    options = encode_options(given)
    from brcd_lightning.data.image_names import image_names  # these load torch, which --help does not need
    from brcd_lightning.deployment.encoding.corpus import encode_corpus

    keep_freed_memory()
    engine = _engine(given)
    images = image_names(given.images, given.column)
    encoder = load_encoder(given.model, given.role, given.device, given.onnx)
    encoded = encode_corpus(encoder, images, given.out, options, engine)
    lines = [told(encoded), *told_unreadable(encoded.unreadable)]
    lines += [] if encoded.finished else ["Other shares are still missing."]
    lines += [f"Codes are in {given.out}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd encode``."""
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
    parser.add_argument(
        "--engine",
        default="threads",
        choices=("threads", "daft"),
        help="threads of this process (default), or worker processes of Daft, here or on a cluster (docs/scaling.md)",
    )
    parser.add_argument(
        "--workers", type=integer(1, 100_000), help="processes of --engine daft (default: one per processor)"
    )
    add_onnx_argument(parser)
    add_encoding_arguments(parser)
    return parser


def load_encoder(model: str, role: Role, device: str, onnx: Path | None) -> HashEncoder:
    """Loads the encoder; worker processes call this function too.

    Args:
        model: folder of a run or of a saved encoder, or ``owner/name`` on the hub.
        role: ``student`` or ``teacher``.
        device: device of the network.
        onnx: exported file to compute with; None for the network itself.

    Raises:
        InputError: for a wrong model or file.
    """
    from brcd_lightning.deployment.encoding.encoder import HashEncoder

    return by_onnx(HashEncoder.from_pretrained(model, role=role, device=device), onnx, any_precision=True)


def _engine(given: argparse.Namespace) -> Engine | None:
    """The requested engine; None for threads of this process."""
    if given.engine == "threads":
        if given.workers is not None:
            raise InputError("--workers needs --engine daft; threads of this process are set by --threads.")
        return None
    if given.device != "cpu":
        raise InputError(f"--engine daft encodes on CPUs, got --device {given.device}; use --shard i/n for each GPU.")
    try:
        from brcd_lightning.deployment.encoding.daft_engine import DaftEngine
    except ImportError as error:
        raise InputError("--engine daft needs Daft: pip install 'brcd_lightning[daft]'.") from error
    model = Path(given.model).expanduser()
    absolute = str(model.resolve()) if os.path.isdir(model) else given.model  # workers may start in another folder
    onnx = None if given.onnx is None else given.onnx.resolve()
    return DaftEngine(partial(load_encoder, absolute, given.role, given.device, onnx), given.workers, given.threads)
