"""Batched crops of images of one size: boxes are drawn per image from its own random stream and resampled together.

Drawing needs the image's stream and is cheap, so loader workers do it. Resampling runs on the device. It is
torchvision's antialiased bilinear resize of a crop, on bytes: a triangle filter that is two output pixels wide if these
are larger than input pixels, and otherwise two input pixels wide, which is plain bilinear interpolation.

Shapes: N images of H x W pixels, S x S pixels of network input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2

FIELDS = ("top", "left", "height", "width", "flipped")
"""Columns of a box: four in pixels of the image, and 1 for a horizontal flip, 0 for none."""
_AT_ONCE = 128
"""Images resampled at a time: double precision takes eight times the memory of the pixels."""


class RandomBoxes(NamedTuple):
    """Boxes of random views.

    Attributes:
        crop: random crop of a view; its size is that of the network input.
        flip: probability of a horizontal flip.
    """

    crop: v2.RandomResizedCrop
    flip: float

    @property
    def size(self) -> int:
        """Side S of the network input."""
        size: int = self.crop.size[0]
        return size

    def draw(self, pixels: Tensor) -> Tensor:
        """Draws the box (5,) of a view of one image (3, H, W), see `FIELDS`, from torch's default generator.

        The draws are the same as those of `v2.RandomResizedCrop` followed by `v2.RandomHorizontalFlip`.
        """
        box = self.crop.make_params([pixels])
        flipped = torch.rand(1).item() < self.flip
        return torch.tensor([*(box[field] for field in FIELDS[:4]), flipped])


def whole_box(pixels: Tensor) -> Tensor:
    """The box (5,) of a whole image (3, H, W), see `FIELDS`."""
    return torch.tensor([0, 0, pixels.shape[-2], pixels.shape[-1], 0])


def resample(pixels: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Resizes the box of each image to the network input.

    Args:
        pixels: (N, 3, H, W) uint8, on any device.
        boxes: (N, 5) int64, see `FIELDS`.
        size: S.

    Returns:
        (N, 3, S, S) float32, whole numbers in [0, 255].
    """
    parts = zip(pixels.split(_AT_ONCE), boxes.split(_AT_ONCE), strict=True)
    return torch.cat([_resample(*part, size) for part in parts])


def _resample(pixels: Tensor, boxes: Tensor, size: int) -> Tensor:
    # In double precision: a GPU may round the factors of single-precision products to ten binary digits.
    top, left, height, width, flipped = boxes.double().unbind(dim=1)
    rows = _weights(top, height, pixels.shape[-2], size)
    columns = _weights(left, width, pixels.shape[-1], size)
    columns = torch.where(flipped.bool()[:, None, None], columns.flip(1), columns)
    across = _rounded(pixels.double() @ columns.mT[:, None])  # (N, 3, H, S): torchvision rounds here, too
    return _rounded(rows[:, None] @ across).float()


def _weights(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Shares (N, S, pixels) of the input pixels in each output pixel, along one side.

    Args:
        start: (N,) first pixel of the box.
        length: (N,) side of the box, in pixels.
        pixels: side of the whole image.
        size: S.
    """
    start, length = start[:, None, None], length[:, None, None]
    step = length / size  # an output pixel in input pixels
    centres = start + step * (torch.arange(size, device=start.device)[:, None] + 0.5)  # (N, S, 1)
    places = torch.arange(pixels, device=start.device) + 0.5
    weights = (1 - (places - centres).abs() / step.clamp_min(1)).clamp_min(0)
    weights = weights * ((places > start) & (places < start + length))  # nothing from outside the box
    return weights / weights.sum(dim=2, keepdim=True)


def _rounded(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_()
