"""The forward pass that computes features to store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from brcd_lightning.backbones import Backbone
from brcd_lightning.data.transforms import ImageTransforms, MixedImages, PreparedImages

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Inference:
    """Device and precision of the backbones."""

    device: torch.device
    """Device of the backbones, which must already be there."""
    precision: str
    """Precision of the trainer. Mixed precisions run the backbones under autocast, all others in float32."""

    @property
    def numerics(self) -> str:
        """The precision as far as it affects features: a key of `AUTOCAST`, or ``float32``."""
        return self.precision if self.precision in AUTOCAST else "float32"

    def features(
        self, transforms: ImageTransforms, backbones: Sequence[Backbone], images: PreparedImages | MixedImages
    ) -> list[Tensor]:
        """Features (M, d) float32 of each backbone for M images, on the CPU."""
        images = type(images)(*(tensor.to(self.device, non_blocking=True) for tensor in images))
        inputs = transforms.finish(images)  # once, since all backbones get the same pixels
        mixed = AUTOCAST.get(self.precision)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, mixed or torch.bfloat16, enabled=mixed is not None),
        ):
            return [backbone(inputs).float().cpu() for backbone in backbones]
