"""From image files to network input: decoding one by one, the evaluation transform of many small images at once.

A resize of a few pixels takes less time than the call that starts it. Images of one shape are therefore resized
together, to the same pixels as alone.

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
"""Pixel values of an image, above which it is resized alone: a batch of photographs would fill the memory."""


def pixels_of(image: ImageLike, at_least: int | None = None) -> Tensor:
    """Pixels (3, H, W) uint8 RGB.

    Args:
        image: a path, a PIL image or pixels.
        at_least: for JPEG files, see `read_image`.

    Raises:
        InputError: for what is not an image, naming the path.
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
    """Network input (3, S, S) uint8 of each image in order, or the error why there is none.

    Args:
        images: decoded one after the other; at most one large one is held at a time.
        transform: from (..., 3, H, W) uint8 to (..., 3, S, S) uint8, of each image by itself.
        at_least: for JPEG files, see `read_image`.
    """
    prepared: dict[int, Tensor | Exception] = {}
    waiting: dict[torch.Size, dict[int, Tensor]] = defaultdict(dict)
    for position, image in enumerate(images):
        try:
            pixels = pixels_of(image, at_least)
        except Exception as error:  # PIL's plugins raise many kinds; each means the image is unusable
            prepared[position] = error
            continue
        if pixels.numel() <= _VALUES_OF_SMALL_IMAGES:
            waiting[pixels.shape][position] = pixels
        else:
            prepared[position] = transform(pixels)
    for group in waiting.values():
        prepared.update(zip(group, transform(torch.stack(list(group.values()))), strict=True))
    return [prepared[position] for position in range(len(prepared))]
