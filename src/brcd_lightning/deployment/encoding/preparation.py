"""From image files to network input: images are decoded one by one, and small ones are transformed in batches.

Resizing a small image takes less time than the call itself. Images of the same shape are therefore resized together,
with the same pixels as a result.

Shapes: S x S pixels of network input.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from os import PathLike
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

from brcd_lightning.data.image_scan import read_image, to_pixels
from brcd_lightning.errors import InputError

ImageLike: TypeAlias = str | PathLike[str] | Image.Image | Tensor
"""A path, a PIL image, or pixels (3, H, W) uint8 RGB."""
_VALUES_OF_SMALL_IMAGES = 1 << 16
"""Images with more pixel values than this are resized one at a time; a batch of photographs would fill the memory."""


def pixels_of(image: ImageLike, at_least: int | None = None) -> Tensor:
    """Decodes an image to pixels (3, H, W) uint8 RGB.

    Args:
        image: a path, a PIL image or pixels.
        at_least: for JPEG files, see `read_image`.

    Raises:
        InputError: if the image cannot be decoded; the message names its path.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise InputError(f"an image tensor must be (3, H, W) uint8 RGB, got {tuple(image.shape)} {image.dtype}.")
        return image
    try:
        return to_pixels(image) if isinstance(image, Image.Image) else read_image(os.fspath(image), at_least)
    except (OSError, ValueError, SyntaxError) as error:
        what = "the image" if isinstance(image, Image.Image) else f"image {image}"
        raise InputError(f"{what} cannot be decoded: {error}.") from error


def prepare_each(
    images: Iterable[ImageLike], transform: Callable[[Tensor], Tensor], at_least: int | None = None
) -> list[Tensor | Exception]:
    """Prepares images in order. Returns network input (3, S, S) uint8 or the error for each.

    Args:
        images: decoded one after another; at most one large image is in memory at a time.
        transform: maps (..., 3, H, W) uint8 to (..., 3, S, S) uint8, each image independently.
        at_least: for JPEG files, see `read_image`.
    """
    prepared: dict[int, Tensor | Exception] = {}
    waiting: dict[torch.Size, dict[int, Tensor]] = defaultdict(dict)
    for position, image in enumerate(images):
        try:
            pixels = pixels_of(image, at_least)
        except Exception as error:  # PIL's plugins raise many types; each means that the image is unusable
            prepared[position] = error
            continue
        if pixels.numel() <= _VALUES_OF_SMALL_IMAGES:
            waiting[pixels.shape][position] = pixels
        else:
            prepared[position] = transform(pixels)
    for group in waiting.values():
        prepared.update(zip(group, transform(torch.stack(list(group.values()))), strict=True))
    return [prepared[position] for position in range(len(prepared))]
