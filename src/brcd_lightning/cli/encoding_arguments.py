"""Arguments shared by all commands that encode images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from brcd_lightning.cli.command_parser import THREADS, any_path, integer
from brcd_lightning.errors import InputError

if TYPE_CHECKING:
    from brcd_lightning.deployment.encoding.corpus import Encoded, EncodeOptions
    from brcd_lightning.deployment.encoding.encoder import HashEncoder

_SHOWN = 5


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Adds MODEL, as `HashEncoder.from_pretrained` takes it."""
    parser.add_argument("model", metavar="MODEL", help="folder of a run, of a saved encoder, or owner/name on the hub")


def add_onnx_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --onnx, for `by_onnx`."""
    parser.add_argument(
        "--onnx",
        type=any_path,
        metavar="FILE",
        help="compute with ONNX Runtime, from a file that brcd export has written",
    )


def by_onnx(encoder: HashEncoder, path: Path | None, *, any_precision: bool = False) -> HashEncoder:
    """The encoder that computes with the file of --onnx; the given encoder if there is none.

    Args:
        encoder: encoder that the file was exported from.
        path: path of the file.
        any_precision: see `deployment.export.onnx_runtime.with_onnx`.

    Raises:
        InputError: if ONNX Runtime is not installed, or for a file of another encoder.
    """
    if path is None:
        return encoder
    try:
        from brcd_lightning.deployment.export.onnx_runtime import with_onnx  # loads packages of an extra
    except ImportError as error:
        raise InputError(f"--onnx needs {error.name}: pip install 'brcd_lightning[onnx]'.") from error
    return with_onnx(encoder, path, any_precision=any_precision)


def add_encoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `deployment.encoding.corpus.EncodeOptions`."""
    parser.add_argument("--column", default="path", help="column of paths, if IMAGES is a table (default: path)")
    parser.add_argument("--batch-size", type=integer(1, 65536), default=64, help="images per batch (default: 64)")
    parser.add_argument(
        "--part-size", type=integer(1, 10_000_000), default=4096, help="images per part (default: 4096)"
    )
    parser.add_argument("--threads", type=THREADS, help="threads that decode and encode (default: one per processor)")
    parser.add_argument(
        "--reduced-decoding",
        action="store_true",
        help="decode large JPEG files at a fraction of their size: faster, but one bit in several hundred differs",
    )


def encode_options(given: argparse.Namespace) -> EncodeOptions:
    """The options of a command line.

    Raises:
        InputError: for a wrong value.
    """
    from brcd_lightning.deployment.encoding.corpus import EncodeOptions  # loads torch, which --help does not need

    shard = _shard(getattr(given, "shard", "1/1"))
    return EncodeOptions(
        given.batch_size, given.part_size, given.threads, shard, reduced_decoding=given.reduced_decoding
    )


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise InputError(f"--shard must be i/n, such as 1/2, got {text!r}.")
    return int(number), int(count)


def told(encoded: Encoded) -> str:
    """Summarises an encoding in one line."""
    speed = f" ({encoded.images / encoded.seconds:,.0f} images/s)" if encoded.images and encoded.seconds else ""
    return f"Encoded {encoded.images:,} of {encoded.description.count:,} images in {encoded.seconds:.1f} s{speed}"


def told_unreadable(unreadable: Mapping[str, str]) -> list[str]:
    """Lists images that could not be read, one per line; they are never replaced."""
    if not unreadable:
        return []
    shown = [f"  {name}: {reason}" for name, reason in list(unreadable.items())[:_SHOWN]]
    more = [f"  and {len(unreadable) - _SHOWN} more"] if len(unreadable) > _SHOWN else []
    return [f"Left out {len(unreadable)} images that cannot be read:", *shown, *more]


def write_unreadable(path: Path, unreadable: Mapping[str, str]) -> None:
    """Writes all unreadable images, one per line: the path, a tab, and the reason."""
    from brcd_lightning.storage.atomic import write_text

    write_text(path, "".join(f"{name}\t{reason}\n" for name, reason in unreadable.items()))
