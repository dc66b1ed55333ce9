"""Folding of batch norms into the preceding convolutions of a frozen network, which saves passes over the activations.

In eval mode a batch norm multiplies by and adds constants, which can be absorbed into the weights and biases of a
convolution. Only the rounding changes: features agree to about six digits.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from brcd_lightning.backbones import Backbone, Images

_TOLERANCE = 1e-4
"""Largest accepted difference of features, relative to the largest feature. Rounding alone causes about 1e-6."""


def folded(backbone: Backbone, size: int) -> Backbone:
    """Returns a copy of a backbone with its batch norms folded, or the backbone itself if there are none.

    The backbone is also returned unchanged if the folded copy does not compute the same features.

    Args:
        backbone: frozen, in eval mode.
        size: side of the images in pixels.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return backbone
    squares = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))  # features of noise would cancel out
    images = nn.functional.interpolate(squares, (size, size)).to(backbone.mean.device)
    copy = deepcopy(backbone)
    with torch.no_grad():
        pairs, expected = _followed(copy, images)
        for before, after in pairs:
            convolution = cast("nn.Conv2d", copy.network.get_submodule(before))
            norm = cast("nn.BatchNorm2d", copy.network.get_submodule(after))
            copy.network.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
            copy.network.set_submodule(after, _activation(norm))
        copy.requires_grad_(False).eval()
        same = (copy(images) - expected).abs().max() <= _TOLERANCE * expected.abs().max()
    return copy if pairs and same else backbone


def _followed(backbone: Backbone, images: Images) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of each convolution and of the batch norm that reads its output, both used once; and the features.

    Forward hooks record them. A symbolic trace would temporarily patch the call of every network in the process.
    """
    outputs: list[tuple[str, Tensor]] = []
    inputs: list[tuple[str, Tensor]] = []
    hooks = []
    for name, module in backbone.network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda _, __, found, name=name: outputs.append((name, found))))
        elif isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            hooks.append(module.register_forward_pre_hook(lambda _, given, name=name: inputs.append((name, given[0]))))
    features = backbone(images)
    for hook in hooks:
        hook.remove()
    times = Counter(name for name, _ in (*outputs, *inputs))
    pairs = [(before, after) for after, given in inputs for before, found in outputs if given is found]
    return [pair for pair in pairs if all(times[name] == 1 for name in pair)], features


def _activation(norm: nn.Module) -> nn.Module:
    """The dropout and activation that timm's batch norms apply after normalising."""
    steps = [getattr(norm, name, nn.Identity()) for name in ("drop", "act")]
    return nn.Sequential(*(step for step in steps if not isinstance(step, nn.Identity)))
