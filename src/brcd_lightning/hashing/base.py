"""Parts that all hashing models share: the head, one evaluation rule, and the network that joins it to a backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from brcd_lightning.backbones import Backbone, Images, Rows
from brcd_lightning.codes import sign
from brcd_lightning.distributed.gather import gather
from brcd_lightning.errors import InputError
from brcd_lightning.memory import require_memory
from brcd_lightning.options import Head, PositiveInt, checked

_SHOWN = 3
"""Images that an error names."""


class HashOutput(NamedTuple):
    """Output of a hashing model for M images (d features, b bits)."""

    features: Tensor
    """(M, d) input of the head."""
    logits: Tensor
    """(M, b) output of the head, before binarisation."""
    code: Tensor
    """(M, b) training code, differentiable through the model's own estimator."""


class HashingModel(nn.Module, ABC):
    """Head and objective of one unsupervised hashing method, used unchanged as teacher and as student.

    A subclass gives the training code (`binarize`) and the objective; evaluation is the same for all: +1 where
    the logit is at least 0.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b.
        head: ``linear``, or ``mlp`` for Linear(d, hidden) + ReLU + Linear(hidden, b).
        hidden_features: hidden width of the ``mlp`` head.
    """

    num_views: int = 1
    """Number of views of an image that the objective compares: 1 or 2."""
    batch_dependent: bool = False
    """True if the training code of an image depends on its batch mates; views are then binarised one by one."""
    trains: bool = True
    """True if the model trains on its objective; otherwise its head is fitted, see `ClosedFormModel`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:  # options of every model are held against their annotations
            checked("hashing_model")(cls)

    @checked("hashing_model")
    def __init__(
        self, in_features: PositiveInt, bits: PositiveInt, head: Head = "linear", hidden_features: PositiveInt = 1000
    ) -> None:
        super().__init__()
        _require_head_memory(in_features, bits, hidden_features if head == "mlp" else None)
        self.bits = bits
        self.head: nn.Module = nn.Linear(in_features, bits)
        if head == "mlp":
            self.head = nn.Sequential(
                nn.Linear(in_features, hidden_features), nn.ReLU(), nn.Linear(hidden_features, bits)
            )

    @abstractmethod
    def binarize(self, logits: Tensor) -> Tensor:
        """Training code (M, b) of logits (M, b), with the model's own gradient."""

    def soft(self, logits: Tensor) -> Tensor:
        """Values in (-1, 1) that the training code follows; their mean size says how decided bits are."""
        return logits.tanh()

    def diagnostics(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Values worth logging: mean |bit mean| over the batch (1: all images share a code), and mean |soft code|."""
        view = views[0]
        return {
            "bit_bias": view.code.mean(dim=0).abs().mean(),
            "saturation": self.soft(view.logits).abs().mean(),
        }

    def setup(self, steps_per_epoch: int) -> None:
        """Called once before training, for objectives that change with the epoch."""

    @abstractmethod
    def objective(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Weighted loss terms by name; their sum is the hashing loss of `num_views` views of the same M images."""

    def forward(self, features: Tensor, num_views: int = 1) -> list[HashOutput]:
        """Training pass on the features (views * M, d) of several views of the same images, one behind the other."""
        logits = self.head(features)  # one product for all views: small ones one by one take twice the time
        half = logits.element_size() < 4
        # Codes are made in full precision: in half of it many logits are equal, and their ranks another.
        with torch.autocast(logits.device.type, enabled=False) if half else nullcontext():
            logits = logits.float() if half else logits
            if self.batch_dependent:
                codes = tuple(self.binarize(view) for view in logits.chunk(num_views))
            else:
                codes = self.binarize(logits).chunk(num_views)
        views = zip(features.chunk(num_views), logits.chunk(num_views), codes, strict=True)
        return [HashOutput(*view) for view in views]

    def kd_code(self, output: HashOutput) -> Tensor:
        """The differentiable code (M, b) that distillation sees; by default the training code."""
        return output.code


class Encoder(Protocol):
    """Makes binary codes of images, or of the rows that stand for them where features are stored."""

    def encode(self, inputs: Images | Rows) -> Tensor:
        """Codes (M, b) int8 in {-1, +1}."""

    def encode_soft(self, inputs: Images | Rows) -> tuple[Tensor, Tensor]:
        """Codes (M, b) int8 in {-1, +1}, and the soft values (M, b) in (-1, 1) that they are the signs of."""


class HashNetwork(nn.Module):
    """A backbone and a hashing model: inputs of the backbone in, codes out.

    Args:
        backbone: images, or rows of stored features, to features. See `Backbone` and `StoredBackbone`.
        hashing_model: features to codes.

    Examples:
        >>> import torch
        >>> from brcd_lightning import CIBHash, HashNetwork, small_backbone
        >>> backbone = small_backbone([8], grid=2)
        >>> network = HashNetwork(backbone, CIBHash(backbone.num_features, bits=16))
        >>> (output,) = network([torch.rand(4, 3, 32, 32)])
        >>> output.features.shape, output.code.shape
        (torch.Size([4, 32]), torch.Size([4, 16]))
        >>> network.encode(torch.rand(4, 3, 32, 32)).abs().unique().tolist()
        [1]
    """

    def __init__(self, backbone: Backbone, hashing_model: HashingModel) -> None:
        super().__init__()
        self.backbone = backbone
        self.hashing_model = hashing_model

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.hashing_model.bits

    def forward(self, views: Sequence[Images | Rows], gathers: bool = False) -> list[HashOutput]:
        """Training pass on several views of the same M images, as one batch through the backbone.

        Args:
            views: what the backbone takes: each (M, 3, H, W) pixels, or each (M,) rows of stored features.
            gathers: whether M images are this process's share of a batch, and the hashing model sees all of it.
        """
        features = self.backbone(torch.cat(list(views)))
        if gathers:
            features = gather(features.unflatten(0, (len(views), -1)), dim=1).flatten(end_dim=1)
        return self.hashing_model(features, len(views))

    @torch.no_grad()
    def encode(self, inputs: Images | Rows) -> Tensor:
        """Codes (M, b) int8 in {-1, +1} of what the backbone takes: +1 where the logit is at least 0.

        The answer does not depend on batch mates or on train mode.

        Raises:
            InputError: if a logit is not finite: its code would look like any other.
        """
        return sign(self._eval_logits(inputs)).to(torch.int8)

    @torch.no_grad()
    def encode_soft(self, inputs: Images | Rows) -> tuple[Tensor, Tensor]:
        """Codes as `encode` makes them, and the model's soft values (M, b) float32, from one pass.

        The soft values are what a query offers beyond its bits, see `search.nearest_by_values`.
        """
        logits = self._eval_logits(inputs)
        return sign(logits).to(torch.int8), self.hashing_model.soft(logits.float())

    def _eval_logits(self, inputs: Images | Rows) -> Tensor:
        """Logits (M, b) in eval mode, whatever the mode is."""
        training = self.training
        if training:
            self.eval()
        logits: Tensor = self.hashing_model.head(self.backbone(inputs))
        if training:
            self.train()
        _require_finite(logits)
        return logits


def _require_head_memory(in_features: int, bits: int, hidden_features: int | None) -> None:
    """Refuses a head that the machine cannot hold, by its largest option; no hidden width means a linear one."""
    if hidden_features is None:
        require_memory("bits", bits, 4 * bits * in_features)
        return
    hidden = "hashing_model.hidden_features"
    name, value = ("bits", bits) if bits > hidden_features else (hidden, hidden_features)
    require_memory(name, value, 4 * hidden_features * (in_features + bits))


def _require_finite(logits: Tensor) -> None:
    """Raises `InputError` that names at most three images of the batch whose logits (M, b) are not all finite."""
    finite = logits.isfinite()
    if bool(finite.all()):
        return
    images = (~finite.all(dim=1)).nonzero().flatten().tolist()
    shown = ", ".join(map(str, images[:_SHOWN])) + (", ..." if len(images) > _SHOWN else "")
    raise InputError(
        f"logits must be finite to become codes, got nan or inf for {len(images)} of {len(logits)} images of a batch "
        f"(positions {shown}); the network's weights have diverged or overflow in {logits.dtype}: use another "
        "checkpoint, or trainer.precision=32-true."
    )
