"""Images that strangers send, and images of an index as a browser shows them; every refusal is one sentence.

Headers are read first, and no more of an image that is too large.
"""

from __future__ import annotations

import hashlib
import io
import os
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from fastapi import HTTPException
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from brcd_lightning.data.image_scan import LONGEST_SIDE, to_pixels
from brcd_lightning.deployment.encoding.thumbnails import thumbnail
from brcd_lightning.deployment.image_index.bundle import Images

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of PIL that are read. Others start programs (EPS) or are no longer in use."""
SHOWN = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
}
"""Media types of the formats that browsers show; others are sent as PNG."""
_THUMBNAILS = 1024


class Picture(NamedTuple):
    """An image as it is sent."""

    content: bytes
    media_type: str


def decode(file: IO[bytes], max_pixels: int) -> Tensor:
    """Pixels (3, H, W) uint8 of an image, as encoders take them.

    Args:
        file: of the image.
        max_pixels: most of them.

    Raises:
        HTTPException: for what is not an image (415) or a larger one (413).
    """
    with open_image(file, max_pixels) as image:
        try:
            return to_pixels(image)
        except Exception as error:  # PIL's plugins raise many kinds for damaged files
            reason = " ".join(str(error).split()) or type(error).__name__
            raise HTTPException(415, f"The image cannot be decoded: {reason}.") from error


def open_image(file: IO[bytes], max_pixels: int) -> Image.Image:
    """Reads the header of an image; see `decode`."""
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise HTTPException(413, f"The image has more than {max_pixels / 1e6:g} megapixels.") from error
    except Exception as error:  # PIL's plugins raise many kinds for what is not theirs
        raise HTTPException(415, f"This is not an image of a known format ({', '.join(FORMATS)}).") from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise HTTPException(
            413, f"The image has {width} x {height} pixels; at most {max_pixels / 1e6:g} megapixels are taken."
        )
    if max(width, height) > LONGEST_SIDE * min(width, height):
        image.close()
        raise HTTPException(413, f"The image has {width} x {height} pixels, which is too thin to be compared.")
    return image


class ImageFiles:
    """The files of an index, by id.

    Args:
        root: folder that the paths are relative to.
        images: of the index.
        max_bytes: of a file that is read.
        max_pixels: of an image that is decoded.
    """

    def __init__(self, root: Path, images: Images, max_bytes: int, max_pixels: int) -> None:
        self._root, self._images = root, images
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._thumbnail = lru_cache(_THUMBNAILS)(self._make_thumbnail)

    def path(self, number: int) -> Path:
        """The file of an image.

        Args:
            number: id of the image.

        Raises:
            HTTPException: if the index holds no such image, or the file is gone (404).
        """
        place = int(np.searchsorted(self._images.ids, number))
        if place == len(self._images.ids) or self._images.ids[place] != number:
            raise HTTPException(404, f"The index holds no image {number}.")
        name = PurePosixPath(self._images.paths[place])
        path = self._root / name
        # An index of somebody else could name files outside of its root.
        if name.is_absolute() or ".." in name.parts or not path.is_file():
            raise HTTPException(404, f"The file of image {number} is gone.")
        return path

    def stamp(self, number: int) -> str:
        """Changes when the file of an image does."""
        path = self.path(number)
        status = _status(path)
        told = f"{path} {status.st_mtime_ns} {status.st_size}"
        return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:16]

    def pixels(self, number: int) -> Tensor:
        """Pixels of an image, see `decode`."""
        return decode(io.BytesIO(self._content(number)), self._max_pixels)

    def picture(self, number: int) -> Picture:
        """An image as its file holds it, or as PNG where browsers do not show its format."""
        content = self._content(number)
        with open_image(io.BytesIO(content), self._max_pixels) as image:
            if image.format in SHOWN:
                return Picture(content, SHOWN[image.format])
        buffer = io.BytesIO()
        to_pil_image(decode(io.BytesIO(content), self._max_pixels)).save(buffer, "PNG")
        return Picture(buffer.getvalue(), SHOWN["PNG"])

    def thumbnail(self, number: int) -> Picture:
        """A small JPEG of an image."""
        return self._thumbnail(number, self.stamp(number))

    def _make_thumbnail(self, number: int, _: str) -> Picture:
        path = self.path(number)
        open_image(io.BytesIO(self._content(number)), self._max_pixels).close()
        content = thumbnail(path)
        if content is None:
            raise HTTPException(415, f"Image {number} cannot be decoded.")
        return Picture(content, SHOWN["JPEG"])

    def _content(self, number: int) -> bytes:
        path = self.path(number)
        if _status(path).st_size > self._max_bytes:
            raise HTTPException(413, f"The file of image {number} has more than {self._max_bytes / 1e6:g} MB.")
        try:
            return path.read_bytes()
        except OSError as error:
            raise HTTPException(404, f"The file of image {number} cannot be read.") from error


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise HTTPException(404, "The file of this image is gone.") from error
