"""Decoding of image files, and the scan that reports unreadable files before a run starts.

All images are decoded here: upright, on a white background, the first frame of an animation, as 8-bit RGB.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from rich.progress import track
from torch import Tensor

from brcd_lightning.data.jpeg import jpeg_pixels
from brcd_lightning.errors import InputError
from brcd_lightning.storage.atomic import cache_folder, write_text

MEMORY_VERSION = 3
"""Format version of a cached scan; files of another version are ignored."""
_REDRAWN = b"upright, on white"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that makes an image of an EXIF orientation upright. `PIL.ImageOps.exif_transpose` applies the same one,
but also rewrites the metadata, which is not used here."""
_FILES_AT_ONCE = 1 << 14
_SHOWN = 240
"""Characters of a path in a message."""
LONGEST_SIDE = 100
"""Largest ratio of the longer side to the shorter: transforms that keep it would make a thin image huge."""


def read_image(path: Path | str, at_least: int | None = None, digest: bytes | None = None) -> Tensor:
    """Decodes an image file to (3, H, W) uint8 RGB, see `to_pixels`.

    PIL raises ordinary exceptions on damaged files, whereas torchvision's own decoder can crash the process.

    Args:
        path: of the file.
        at_least: decode a JPEG file at half, a quarter or an eighth of its size, as long as both sides keep that many
            pixels: several times faster, with slightly different pixels after a resize. None decodes all pixels.
        digest: of the file when it was scanned, see `FileScan`; not checked when None.

    Raises:
        ValueError: if the file is not an image, or has changed since it was scanned.
        OSError: if it cannot be read.
    """
    content = _content(path)
    pixels, redrawn = _decode(content, at_least)
    if digest not in (None, _digest(content, redrawn)):
        raise ValueError("it has changed since it was checked; start again")
    return pixels


def _digest(content: bytes, redrawn: bool) -> bytes:
    """See `FileScan.digests`."""
    return hashlib.sha256(content + _REDRAWN if redrawn else content).digest()


def _content(path: Path | str) -> bytes:
    """Bytes of a regular file; reading from a pipe would block until something is written to it."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is a folder, a pipe or a device, not a file")
    with open(path, "rb") as file:  # creating a path object takes longer than reading a small file
        return file.read()


def _decode(content: bytes, at_least: int | None = None) -> tuple[Tensor, bool]:
    """Pixels (3, H, W) uint8 of a file, and whether they differ from the stored ones: rotated, or put on white."""
    if not content:
        raise ValueError("the file is empty")
    try:
        opened = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:  # its message contains a memory address
        raise ValueError("it has no image format that PIL knows") from error
    except Image.DecompressionBombError as error:  # not a ValueError, unlike all others
        raise ValueError("it has more pixels than PIL decodes") from error
    with opened as image:
        _require_shape(image)
        if at_least is not None and min(image.size) >= 2 * at_least:
            share = at_least / min(image.size)
            image.draft(image.mode, (int(image.width * share), int(image.height * share)))
        elif (stored := jpeg_pixels(content, image)) is not None:
            turn = _orientation(image)
            return torch.from_numpy(_turned(stored, turn)).permute(2, 0, 1), turn in _TURNS
        shown = _as_shown(image)
        return _rgb(shown), shown is not image


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, 3), transposed as `_TURNS` transposes an image."""
    if orientation not in _TURNS:
        return pixels
    upright = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    rows, columns = (slice(None, None, -1 if orientation in flips else None) for flips in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return np.ascontiguousarray(upright[rows, columns])


def to_pixels(image: Image.Image) -> Tensor:
    """Pixels (3, H, W) uint8 RGB of an image of 8 or 16 bits, as viewers show them.

    The declared orientation is applied, transparent areas become white, and an animation is reduced to its first frame.

    Raises:
        ValueError: for values of 32 bits, whose range is unknown, or an image that is too thin.
    """
    _require_shape(image)
    return _rgb(_as_shown(image))


def _require_shape(image: Image.Image) -> None:
    if max(image.size) > LONGEST_SIDE * min(image.size):
        raise ValueError(f"it has {image.width} x {image.height} pixels, too thin to be compared")


def _as_shown(image: Image.Image) -> Image.Image:
    """The image, upright and on white; returns the same object if nothing has to be changed."""
    image.load()  # this rotates a TIFF image and removes its orientation
    turn = _TURNS.get(_orientation(image))
    shown = image if turn is None else image.transpose(turn)
    if not shown.has_transparency_data or shown.mode.startswith("I"):  # PIL cannot composite 16-bit grayscale
        return shown
    layer = shown.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return shown
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # PIL raises many types for damaged metadata, which does not affect the pixels
        return 1


def _rgb(image: Image.Image) -> Tensor:
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits a value, of unknown range; save it with 8 or 16")
    if image.mode.startswith("I"):  # 16-bit grayscale, which PIL would clip instead of scaling
        grey = torch.from_numpy(np.asarray(image).astype(np.int64) >> 8)
        return grey.clamp(0, 255).to(torch.uint8).expand(3, -1, -1).contiguous()
    shown = image if image.mode == "RGB" else image.convert("RGB")
    return torch.from_numpy(np.array(shown)).permute(2, 0, 1)


class FileScan(NamedTuple):
    """Result of decoding every file of a list once."""

    digests: list[bytes | None]
    """SHA-256 of each file, in the order of the list; None for an unreadable file.

    For files that are rotated upright or put on white, it differs from the digest of the bytes alone. Features and
    teachers computed from the pixels as stored must not be reused for them.
    """
    unreadable: dict[str, str]
    """Reason why each unreadable file cannot be decoded, by name."""


def scan_files(root: Path, names: Sequence[str], skip_corrupt: bool) -> FileScan:
    """Decodes every file once, in parallel and with a progress bar; the result is cached until one of them changes.

    Args:
        root: folder that the names are relative to.
        names: relative paths.
        skip_corrupt: report unreadable files instead of raising.

    Raises:
        InputError: naming unreadable files, unless `skip_corrupt`.
    """
    memory = _digest_file(root, names)
    found = _remembered(memory)
    # Only readable files are cached: a change of permissions can make a file readable without changing it.
    unknown = [name for name in names if name not in found]
    unreadable = {}
    for name, (digest, reason) in zip(unknown, _decode_all(root, unknown), strict=True):
        if digest:
            found[name] = bytes.fromhex(digest)
        else:
            unreadable[name] = reason
    digests = [found.get(name) for name in names]
    if len(unreadable) < len(unknown):
        _remember(memory, names, digests)
    if unreadable and not skip_corrupt:
        shown = "; ".join(f"{_short(root / name)} ({_short(reason)})" for name, reason in list(unreadable.items())[:3])
        more = f" and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        raise InputError(
            f"{len(unreadable)} unreadable image(s): {shown}{more}. Repair or remove them, or set "
            "dataset.skip_corrupt=true to leave them out."
        )
    return FileScan(digests, unreadable)


def _short(told: object) -> str:
    text = str(told)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _remember(path: Path, names: Sequence[str], digests: Sequence[bytes | None]) -> None:
    """Writes the digests of the readable files."""
    known = {name: digest.hex() for name, digest in zip(names, digests, strict=True) if digest is not None}
    with suppress(OSError):  # without a cache, the files are decoded again
        write_text(path, json.dumps({"version": MEMORY_VERSION, "digests": known}))


def _remembered(path: Path) -> dict[str, bytes]:
    """Digests of an earlier scan, by name; none if the file is missing, damaged, or of another version."""
    try:
        memory = json.loads(path.read_text(encoding="utf-8"))
        if memory["version"] != MEMORY_VERSION:
            return {}
        return {name: bytes.fromhex(digest) for name, digest in memory["digests"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _digest_file(root: Path, names: Sequence[str]) -> Path:
    """Path of the cached digests of these files in their present state, given by path, size and times.

    The change time of the inode is included as well: tools that restore a file can set its modification time, but not
    its change time.
    """
    key = hashlib.sha256(str(root.resolve()).encode())
    base = str(root)
    for name in names:  # plain strings: path objects for many thousand files take seconds
        try:
            found = os.stat(f"{base}/{name}")
            key.update(f"{name}\n{found.st_size}\n{found.st_mtime_ns}\n{found.st_ctime_ns}\n".encode())
        except OSError:
            key.update(f"{name}\nunreadable\n".encode())
    return cache_folder() / "scans" / f"{key.hexdigest()}.json"


def _decode_all(root: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """For every file, (digest, ""), or ("", reason) if it cannot be decoded."""

    def check(name: str) -> tuple[str, str]:
        try:
            content = _content(root / name)
            _, redrawn = _decode(content)
        except Exception as error:  # PIL's plugins raise many types; each means that the file is unusable
            return "", " ".join(str(error).split()) or type(error).__name__
        return _digest(content, redrawn).hex(), ""

    def checked(pool: ThreadPoolExecutor) -> Iterator[tuple[str, str]]:
        for first in range(0, len(names), _FILES_AT_ONCE):  # a pool keeps all submitted items in memory
            yield from pool.map(check, names[first : first + _FILES_AT_ONCE])

    with ThreadPoolExecutor() as pool:
        return list(track(checked(pool), "Checking images", total=len(names), transient=True, disable=not names))
