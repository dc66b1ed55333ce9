"""Random color changes of views: drawn for each image from its own random stream, applied to whole batches.

Drawing needs the image's stream and is cheap, so loader workers do it. Applying the changes is arithmetic on pixels
and runs on the device. The operations are those of torchvision's ColorJitter, RandomGrayscale and GaussianBlur on float
images, with separate factors for each image.

Shapes: N images of H x W pixels, values in [0, 1].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_GRAY = (0.2989, 0.587, 0.114)
_TINY = 1e-12
_ORDERS = tuple(itertools.permutations(range(4)))
FIELDS = ("brightness", "contrast", "saturation", "hue", "order", "gray", "blur")
"""Columns of `draw`: three factors (1 changes nothing), the hue shift in (-0.5, 0.5) of the color circle, the order of
these four changes in {0..23}, whether the image becomes gray, and the standard deviation of the blur in pixels."""


class ColorJitter(NamedTuple):
    """Probabilities and ranges of random colors.

    Attributes:
        jitter: probability that brightness, contrast, saturation and hue change, in random order.
        brightness: factors lie in [1 - brightness, 1 + brightness].
        contrast: the same.
        saturation: the same.
        hue: largest hue shift, as a fraction of the color circle.
        gray: probability that the image is converted to grayscale.
        blur: probability of a 3 x 3 Gaussian blur.
        sigma: range of the standard deviation of the blur, in pixels.
    """

    jitter: float = 0.7
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    gray: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)

    def draw(self) -> Tensor:
        """Draws the colors (7,) of one view, see `FIELDS`, from torch's default generator."""
        uniform = torch.rand(len(FIELDS) + 2).tolist()
        colors = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        if uniform[7] < self.jitter:
            ranges = (self.brightness, self.contrast, self.saturation)
            colors[:3] = [1 + width * (2 * u - 1) for width, u in zip(ranges, uniform, strict=False)]
            colors[3] = self.hue * (2 * uniform[3] - 1)
            colors[4] = math.floor(uniform[4] * len(_ORDERS))
        colors[5] = float(uniform[5] < self.gray)
        if uniform[8] < self.blur:
            colors[6] = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * uniform[6]
        return torch.tensor(colors)


def apply_colors(images: Tensor, colors: Tensor) -> Tensor:
    """Applies the color changes of each image: the four factors in its order, then grayscale, then blur.

    Args:
        images: (N, 3, H, W) in [0, 1], on any device.
        colors: (N, 7), see `FIELDS`.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    images = images.clone()
    order = torch.tensor(_ORDERS, device=images.device)[colors[:, 4].long()]  # (N, 4)
    jittered = (colors[:, :4] != colors.new_tensor([1, 1, 1, 0])).any(dim=1)
    for place in range(4):
        for number, change in enumerate(_CHANGES):
            rows = (jittered & (order[:, place] == number)).nonzero()[:, 0]
            if len(rows):
                images[rows] = change(images[rows], colors[rows, number])
    gray = colors[:, 5].bool().nonzero()[:, 0]
    images[gray] = _gray(images[gray]).expand(-1, 3, -1, -1)
    blurred = (colors[:, 6] > 0).nonzero()[:, 0]
    images[blurred] = _blur(images[blurred], colors[blurred, 6])
    return images


def _gray(images: Tensor) -> Tensor:
    """Luma (N, 1, H, W)."""
    return (images * images.new_tensor(_GRAY)[:, None, None]).sum(dim=1, keepdim=True)


# The changes work in place: on a CPU a new tensor of this size costs more than the arithmetic.


def _blend(images: Tensor, others: Tensor | None, factors: Tensor) -> Tensor:
    factors = factors[:, None, None, None]
    images.mul_(factors)
    if others is not None:
        images.add_(others.mul_(1 - factors))
    return images.clamp_(0, 1)


def _brightness(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, None, factors)


def _contrast(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, _gray(images).mean(dim=(2, 3), keepdim=True), factors)


def _saturation(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, _gray(images), factors)


def _hue(images: Tensor, turns: Tensor) -> Tensor:
    """Shifts the hue of HSV colors by a fraction of the circle; value and chroma are unchanged."""
    red, green, blue = images.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # Arithmetic instead of torch.where, which takes ten times as long: one of the three is 1, the others are 0.
    is_red = (value == red).to(images.dtype)
    is_green = (value == green).to(images.dtype).mul_(1 - is_red)
    is_blue = 1 - is_red - is_green
    hue = is_red * (green - blue) + is_green * (blue - red) + is_blue * (red - green)
    hue /= chroma.clamp_min(_TINY)  # gray has no hue, so any value will do
    hue += 2 * is_green + 4 * is_blue + 6 * turns[:, None, None]  # in sixths of the circle
    for channel, place in enumerate((5, 3, 1)):
        # A channel is `value` minus a share of the chroma that depends on its distance from the hue.
        sextant = hue + place
        sextant -= (sextant / 6).floor_().mul_(6)
        share = torch.minimum(sextant, 4 - sextant).clamp_(0, 1)
        torch.addcmul(value, chroma, share, value=-1, out=images[:, channel])
    return images


def _blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Separable 3 x 3 Gaussian with mirrored edges."""
    side = torch.exp(-0.5 / sigmas.square())
    side = (side / (1 + 2 * side))[:, None, None, None]
    for axis in (3, 2):
        size = images.shape[axis]
        padded = F.pad(images, (1, 1, 0, 0) if axis == 3 else (0, 0, 1, 1), mode="reflect")
        before, after = padded.narrow(axis, 0, size), padded.narrow(axis, 2, size)
        images.mul_(1 - 2 * side).add_((before + after).mul_(side))
    return images


_CHANGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_brightness, _contrast, _saturation, _hue)
