"""Transforms from uint8 pixels to network input: the evaluation transform and the random view, in two steps.

`prepare` crops one image and draws its random color changes in a loader worker. `finish` applies them to whole batches
on the device of the network. If all images have the same size, a GPU also crops; workers then only draw the boxes.
Normalization is left to the backbones, since it depends on their weights. All random draws use torch's generator in the
first step, so a seeded generator gives the same view on every device and for every network.

Shapes: N images; S x S pixels of network input; P numbers that describe the color changes of a view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from brcd_lightning.data.color_jitter import FIELDS, ColorJitter, apply_colors
from brcd_lightning.data.crops import RandomBoxes, resample, whole_box
from brcd_lightning.options import ImageSize, checked

VERSION = 3
"""Part of fingerprints; changed whenever the same seed would give different pixels."""
_VALUES_IN_CACHE = 1 << 20
"""Pixel values that a CPU finishes at a time; larger tensors leave the cache between the steps."""


class PreparedImages(NamedTuple):
    """Unfinished images: one image, or a batch with a leading dimension."""

    pixels: Tensor
    """(N, 3, S, S) uint8; (N, 3, H, W) if the device crops."""
    colors: Tensor
    """(N, P) float32, see `color_jitter.FIELDS`; P = 0 without color changes."""
    boxes: Tensor
    """(N, B) int64, see `crops.FIELDS`; B = 0 if the images are already cropped."""


class MixedImages(NamedTuple):
    """Unfinished images, each a weighted sum of two."""

    pixels: Tensor
    """(N, 2, 3, S, S) uint8."""
    colors: Tensor
    """(N, 2, P) float32."""
    shares: Tensor
    """(N,) float32 in [0, 1]: weight of the first image in the sum."""


@dataclass(frozen=True)
class ImageTransforms:
    """Transforms from images to network input.

    Attributes:
        evaluation: deterministic transform from (3, H, W) uint8 to (3, S, S) uint8, for queries, database and clean
            anchors.
        view: random transform of the same shapes, for augmented views.
        jitter: random color changes of views; None for no changes.
        boxes: draws the boxes that `view` would crop, if `evaluation` resizes whole images, so that a device can do
            both; None for other transforms.
        crops_on_device: whether `finish` crops the images, see `for_device`.
    """

    evaluation: nn.Module
    view: nn.Module
    jitter: ColorJitter | None = None
    boxes: RandomBoxes | None = None
    crops_on_device: bool = False

    def for_device(self, device: torch.device, one_size: bool) -> ImageTransforms:
        """The same transforms, cropping on the device if it is a GPU and the transforms support it.

        Pixels may then differ by one of 255 levels, as torchvision's resize of bytes also does between processors.

        Args:
            device: device that finishes batches.
            one_size: whether all images have the same size.
        """
        return replace(self, crops_on_device=device.type == "cuda" and one_size and self.boxes is not None)

    def in_workers(self) -> ImageTransforms:
        """The same transforms, cropping in `prepare`."""
        return replace(self, crops_on_device=False)

    def prepare(self, pixels: Tensor) -> PreparedImages:
        """Prepares one image (3, H, W) uint8 for evaluation."""
        if self.crops_on_device:
            return PreparedImages(pixels, torch.empty(0), whole_box(pixels))
        return PreparedImages(self.evaluation(pixels), torch.empty(0), torch.empty(0))

    def prepare_view(self, pixels: Tensor) -> PreparedImages:
        """Prepares one random view of an image (3, H, W) uint8, drawn from torch's default generator."""
        if self.crops_on_device and self.boxes is not None:
            view, box = pixels, self.boxes.draw(pixels)
        else:
            view, box = self.view(pixels), torch.empty(0)
        return PreparedImages(view, torch.empty(0) if self.jitter is None else self.jitter.draw(), box)

    def finish(self, prepared: PreparedImages | MixedImages) -> Tensor:
        """Images (N, 3, S, S) float32 in [0, 1] of a batch, on its device; N may stand for several dimensions."""
        shape: tuple[int, ...] = prepared.pixels.shape
        pixels, colors = prepared.pixels.flatten(end_dim=-4), prepared.colors.flatten(end_dim=-2)
        if isinstance(prepared, PreparedImages) and prepared.boxes.shape[-1] and self.boxes is not None:
            pixels = resample(pixels, prepared.boxes.flatten(end_dim=-2), self.boxes.size)
        images = torch.empty_like(pixels, dtype=torch.float32, memory_format=torch.channels_last)
        rows = max(1, len(pixels) if pixels.is_cuda else _VALUES_IN_CACHE // pixels.shape[1:].numel())
        for part, part_pixels, part_colors in zip(
            images.split(rows), pixels.split(rows), colors.split(rows), strict=True
        ):
            part.copy_(self._finish(part_pixels, part_colors))
        if isinstance(prepared, MixedImages):
            shape = (*shape[:-4], *shape[-3:])
            share = prepared.shares.flatten()[:, None, None, None]
            images = share * images[::2] + (1 - share) * images[1::2]
        return images.unflatten(0, shape[:-3])

    @staticmethod
    def _finish(pixels: Tensor, colors: Tensor) -> Tensor:
        images = pixels.float().div_(255)
        return apply_colors(images, colors) if colors.shape[-1] == len(FIELDS) else images


@checked("transform")
def natural_images(size: ImageSize = 224, center_crop: bool = True) -> ImageTransforms:
    """Transforms of the paper and of CIBHash for photographs.

    Args:
        size: side of the network input in pixels.
        center_crop: evaluate on the central `size` pixels of an image resized to 8/7 of `size` (256 for 224), as for
            ImageNet and MSCOCO. False resizes the whole image to `size`, as for CIFAR.
    """
    bilinear = InterpolationMode.BILINEAR
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3), interpolation=bilinear, antialias=True)
    view = v2.Compose([crop, v2.RandomHorizontalFlip(0.5)])
    if center_crop:
        fixed = [v2.Resize(round(size * 8 / 7), bilinear, antialias=True), v2.CenterCrop(size)]
        return ImageTransforms(v2.Compose(fixed), view, ColorJitter())
    return ImageTransforms(
        v2.Resize((size, size), bilinear, antialias=True), view, ColorJitter(), RandomBoxes(crop, 0.5)
    )


@checked("transform")
def digit_images(size: ImageSize = 16) -> ImageTransforms:
    """Transforms for handwritten digits: small rotations, shears and crops, but no flip, which would change a digit.

    Args:
        size: side of the network input in pixels.
    """
    bilinear = InterpolationMode.BILINEAR
    view = [
        v2.RandomAffine(degrees=12, scale=(0.9, 1.1), shear=10, interpolation=bilinear),
        v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(3 / 4, 4 / 3), interpolation=bilinear, antialias=True),
    ]
    fixed = [v2.Resize((size, size), bilinear, antialias=True)]
    return ImageTransforms(v2.Compose(fixed), v2.Compose(view))
