"""The command ``brcd export MODEL``: a trained model as one ONNX file, and as a page that searches in the browser."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from brcd_lightning.cli.command_parser import CommandParser, any_path, integer, output_file, output_folder
from brcd_lightning.cli.encoding_arguments import add_model_argument
from brcd_lightning.errors import ExitCode, InputError

if TYPE_CHECKING:
    from brcd_lightning.deployment.encoding.encoder import HashEncoder

_CALIBRATION = 256
"""Number of images that calibrate the ranges of int8."""


def main(arguments: Sequence[str]) -> int:
    """Writes the requested files.

    Args:
        arguments: see ``brcd export --help``.

    Raises:
        InputError: for a wrong model or option, or packages that are not installed.
    """
    given = parser().parse_args(arguments)
    _check(given)
    from brcd_lightning.deployment.encoding.encoder import HashEncoder  # loads torch, which --help does not need

    encoder = HashEncoder.from_pretrained(given.model, role=given.role)
    if given.onnx is not None:
        _write_onnx(encoder, given)
    if given.static is not None:
        _write_page(encoder, given)
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd export``."""
    parser = CommandParser(
        prog="brcd export",
        description="Writes a trained model as one ONNX file and compares it with the network (NAME.parity.json), and "
        "a folder for any web server that searches codes in the browser.",
    )
    add_model_argument(parser)
    parser.add_argument("--onnx", type=output_file, metavar="FILE", help="the ONNX file, such as student.onnx")
    parser.add_argument("--role", default="student", choices=("student", "teacher"), help="which network is exported")
    parser.add_argument("--int8", action="store_true", help="also write FILE with the suffix .int8.onnx")
    parser.add_argument("--images", type=any_path, metavar="IMAGES", help="folder or list to compare and calibrate on")
    parser.add_argument(
        "--count", type=integer(2, 1_000_000), default=1000, help="images to compare on, at most (default: 1000)"
    )
    parser.add_argument("--static", type=output_folder, metavar="DIR", help="folder of a page that searches --codes")
    parser.add_argument("--codes", type=any_path, metavar="CODES", help="folder of codes that brcd encode has written")
    parser.add_argument(
        "--ort-web", type=any_path, metavar="DIST", help="folder dist of the npm package onnxruntime-web"
    )
    return parser


def _check(given: argparse.Namespace) -> None:
    if given.onnx is None and given.static is None:
        raise InputError("nothing to write; give --onnx FILE, or --static DIR --codes CODES.")
    if (given.static is None) != (given.codes is None):
        raise InputError("--static DIR and --codes CODES belong together; give both.")
    if given.onnx is None and (given.int8 or given.images is not None):
        raise InputError("--int8 and --images belong to --onnx FILE; give that too.")
    if given.onnx is not None and given.onnx.suffix != ".onnx":
        raise InputError(f"--onnx must end in .onnx, got {given.onnx}.")
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed: pip install 'brcd_lightning[onnx]'.")


def _write_onnx(encoder: HashEncoder, given: argparse.Namespace) -> None:
    """Writes the ONNX file, its int8 version on request, and the comparison."""
    from brcd_lightning.data.image_names import image_names
    from brcd_lightning.deployment.export.onnx_model import export_onnx
    from brcd_lightning.deployment.export.onnx_runtime import OnnxRuntime
    from brcd_lightning.deployment.export.parity import as_markdown, compare, images_of, random_images, write_report
    from brcd_lightning.deployment.export.quantisation import quantise

    path: Path = given.onnx
    if given.images is None:
        images = random_images(encoder)
    else:
        images = images_of(encoder, image_names(given.images), given.count)
    export_onnx(encoder, path)
    files = [OnnxRuntime(path, encoder.fingerprint)]
    if given.int8:
        small = path.with_suffix(".int8.onnx")
        quantise(path, small, images.batches(most=_CALIBRATION))
        files.append(OnnxRuntime(small, encoder.fingerprint))
    report = compare(encoder, files, images)
    write_report(report, path.with_suffix(".parity.json"))
    sys.stdout.write(as_markdown(report))
    sys.stdout.write(f"\nThe model is in {path}, the comparison in {path.with_suffix('.parity.json')}\n")


def _write_page(encoder: HashEncoder, given: argparse.Namespace) -> None:
    """Writes the folder of a page that searches."""
    from brcd_lightning.deployment.export.onnx_model import export_onnx
    from brcd_lightning.deployment.export.static_page import write_page

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "student.onnx"
        export_onnx(encoder, model)
        page = write_page(given.static, encoder, model, given.codes, given.ort_web)
    told = f"The page is in {given.static}: {page.images:,} images"
    told += f", {page.left_out:,} left out that could not be read" if page.left_out else ""
    told += f", {page.without_thumbnail:,} without a thumbnail" if page.without_thumbnail else ""
    told += f"\nServe it with any web server, such as: python -m http.server --directory {given.static}\n"
    if given.ort_web is None:
        told += f"It loads ONNX Runtime from {page.runtime}; --ort-web DIST puts those files beside it.\n"
    sys.stdout.write(told)
