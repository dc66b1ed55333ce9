"""JPEG files decoded by simplejpeg where it is installed: the pixels of PIL in a third of the time.

Both call libjpeg-turbo. PIL keeps four bytes a pixel, and copies them twice on their way into an array.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from PIL import Image

Decoder: TypeAlias = Callable[[bytes], np.ndarray]
"""From the content of a JPEG file to pixels (H, W, 3) uint8; raises for what it does not take."""
_START, _SCAN = b"\xff\xd8\xff\xe0", b"\xff\xda"  # with a segment of JFIF, whose three colours are YCbCr
_FRAMES = b"\xc0\xc2"  # baseline and progressive
_SAY_NOTHING = b"\xc4\xdb\xdd\xe0\xfe"  # tables, restarts, JFIF, comments


def jpeg_pixels(content: bytes, image: Image.Image) -> np.ndarray | None:
    """Pixels (H, W, 3) uint8 as a JPEG file of colours stores them; None where PIL must decode.

    What simplejpeg refuses, or warns of, is left to PIL too: the same files are readable with and without it.

    Args:
        content: of the file.
        image: the same file, opened by PIL and not yet decoded.
    """
    if image.format not in ("JPEG", "MPO") or image.mode != "RGB":
        return None
    return _decoded(content, image.height, image.width)


def plain_jpeg_pixels(content: bytes, below: int | None = None) -> np.ndarray | None:
    """The same of a JPEG file without metadata, which need not be opened by PIL first; None for any other file.

    Args:
        content: of the file.
        below: None too if neither side is shorter.
    """
    size = _size_of_plain(content) if content.startswith(_START) else None
    if size is None or size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or size[0] * size[1]):  # PIL warns of large ones
        return None
    return None if below is not None and min(size) >= below else _decoded(content, *size)


def _size_of_plain(content: bytes) -> tuple[int, int] | None:
    """Height and width of a file of three colours; None where a segment may say more about them, or is unknown."""
    place, size = 2, None
    while content[place : place + 2] != _SCAN:
        mark, kind = content[place : place + 1], content[place + 1 : place + 2]
        if mark != b"\xff" or kind not in _SAY_NOTHING + _FRAMES:
            return None
        if kind in _FRAMES:
            if len(content) < place + 10:
                return None
            bits, height, width, colours = struct.unpack_from(">BHHB", content, place + 4)
            if size is not None or bits != 8 or colours != 3 or not height or not width:
                return None
            size = height, width
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return size


def _decoded(content: bytes, height: int, width: int) -> np.ndarray | None:
    if (decode := decoder()) is None:
        return None
    try:
        pixels = decode(content)
    except Exception:  # its kinds of errors are not documented; PIL says what is wrong
        return None
    return pixels if pixels.shape == (height, width, 3) else None


@lru_cache(maxsize=1)
def decoder() -> Decoder | None:
    """The decoder of simplejpeg; None if it is missing, or if its build makes other pixels than PIL's."""
    try:
        import simplejpeg  # noqa: PLC0415 (optional)
    except ImportError:
        return None

    def decode(content: bytes) -> np.ndarray:
        found: np.ndarray = simplejpeg.decode_jpeg(content, "RGB")  # strict: warnings are errors
        return found

    return decode if all(_agrees(decode, subsampling) for subsampling in (0, 1, 2)) else None


def _agrees(decode: Decoder, subsampling: int) -> bool:
    """True if a small image of coloured noise has the pixels that PIL gives it."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 45, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=85, subsampling=subsampling)
    return np.array_equal(decode(file.getvalue()), np.asarray(Image.open(file)))
