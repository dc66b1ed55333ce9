"""Uploaded images, which are untrusted, and images of an index in formats that browsers show.

The header is read first; an image that is too large is refused without decoding. Every refusal is one sentence.
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
"""PIL formats that are accepted. Others start programs (EPS) or are obsolete."""
SHOWN = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
}
"""Media types of formats that browsers show; others are converted to PNG."""
_THUMBNAILS = 1024


class Picture(NamedTuple):
    """An encoded image for a response."""

    content: bytes
    media_type: str


def decode(file: IO[bytes], max_pixels: int) -> Tensor:
    """Decodes an image to pixels (3, H, W) uint8, as encoders expect them.

    Args:
        file: of the image.
        max_pixels: largest accepted number of pixels.

    Raises:
        HTTPException: if the file is not an image (415), or the image is too large (413).
    """
    with open_image(file, max_pixels) as image:
        try:
            return to_pixels(image)
        except Exception as error:  # PIL's plugins raise many types for damaged files
            reason = " ".join(str(error).split()) or type(error).__name__
            raise HTTPException(415, f"The image cannot be decoded: {reason}.") from error


def open_image(file: IO[bytes], max_pixels: int) -> Image.Image:
    """Reads the header of an image; see `decode`."""
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise HTTPException(413, f"The image has more than {max_pixels / 1e6:g} megapixels.") from error
    except Exception as error:  # PIL's plugins raise many types for foreign formats
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
        max_bytes: largest file to read.
        max_pixels: largest image to decode.
    """

    def __init__(self, root: Path, images: Images, max_bytes: int, max_pixels: int) -> None:
        self._root, self._images = root, images
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._thumbnail = lru_cache(_THUMBNAILS)(self._make_thumbnail)

    def path(self, number: int) -> Path:
        """Returns the path of an image.

        Args:
            number: id of the image.

        Raises:
            HTTPException: if the index holds no such image, or its file is missing (404).
        """
        place = int(np.searchsorted(self._images.ids, number))
        if place == len(self._images.ids) or self._images.ids[place] != number:
            raise HTTPException(404, f"The index holds no image {number}.")
        name = PurePosixPath(self._images.paths[place])
        path = self._root / name
        # An untrusted index could name files outside its root.
        if name.is_absolute() or ".." in name.parts or not path.is_file():
            raise HTTPException(404, f"The file of image {number} is gone.")
        return path

    def stamp(self, number: int) -> str:
        """Returns a tag that changes when the file of an image changes."""
        path = self.path(number)
        status = _status(path)
        told = f"{path} {status.st_mtime_ns} {status.st_size}"
        return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:16]

    def pixels(self, number: int) -> Tensor:
        """Decodes an image of the index, see `decode`."""
        return decode(io.BytesIO(self._content(number)), self._max_pixels)

    def picture(self, number: int) -> Picture:
        """Returns the file of an image unchanged, or converted to PNG if browsers do not show its format."""
        content = self._content(number)
        with open_image(io.BytesIO(content), self._max_pixels) as image:
            if image.format in SHOWN:
                return Picture(content, SHOWN[image.format])
        buffer = io.BytesIO()
        to_pil_image(decode(io.BytesIO(content), self._max_pixels)).save(buffer, "PNG")
        return Picture(buffer.getvalue(), SHOWN["PNG"])

    def thumbnail(self, number: int) -> Picture:
        """Returns a JPEG thumbnail of an image."""
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
