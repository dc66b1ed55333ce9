"""Common parts of all hashing models: the head, the evaluation rule, and the network with a backbone."""

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
"""Largest number of images that an error names."""


class HashOutput(NamedTuple):
    """Output of a hashing model for M images (d features, b bits)."""

    features: Tensor
    """(M, d) input of the head."""
    logits: Tensor
    """(M, b) output of the head, before binarisation."""
    code: Tensor
    """(M, b) training code, differentiable through the model's gradient estimator."""


class HashingModel(nn.Module, ABC):
    """Head and objective of one unsupervised hashing method, used unchanged as teacher and as student.

    A subclass defines the training code (`binarize`) and the objective. Evaluation is the same for all models: a bit is
    +1 if its logit is at least 0.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b.
        head: ``linear``, or ``mlp`` for Linear(d, hidden) + ReLU + Linear(hidden, b).
        hidden_features: hidden width of the ``mlp`` head.
    """

    num_views: int = 1
    """Number of views of an image that the objective compares: 1 or 2."""
    batch_dependent: bool = False
    """True if the training code of an image depends on the rest of the batch; views are then binarised one by one."""
    trains: bool = True
    """True if the model is trained on its objective; otherwise its head is fitted, see `ClosedFormModel`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:  # checks the options of every model against their annotations
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
        """Training code (M, b) of logits (M, b), with the model's gradient estimator."""

    def soft(self, logits: Tensor) -> Tensor:
        """Soft values in (-1, 1) of the training code; their mean magnitude measures the saturation of the bits."""
        return logits.tanh()

    def diagnostics(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Values to log: mean |bit mean| over the batch (1 if all images share one code), and mean |soft code|."""
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
        """Training pass on the concatenated features (views * M, d) of several views of the same images."""
        logits = self.head(features)  # one product for all views; separate small ones take twice the time
        half = logits.element_size() < 4
        # Codes are computed in full precision: in half precision many logits are equal, which changes their ranks.
        with torch.autocast(logits.device.type, enabled=False) if half else nullcontext():
            logits = logits.float() if half else logits
            if self.batch_dependent:
                codes = tuple(self.binarize(view) for view in logits.chunk(num_views))
            else:
                codes = self.binarize(logits).chunk(num_views)
        views = zip(features.chunk(num_views), logits.chunk(num_views), codes, strict=True)
        return [HashOutput(*view) for view in views]

    def kd_code(self, output: HashOutput) -> Tensor:
        """The differentiable code (M, b) that distillation uses; by default the training code."""
        return output.code


class Encoder(Protocol):
    """Encodes images, or rows of stored features, to binary codes."""

    def encode(self, inputs: Images | Rows) -> Tensor:
        """Codes (M, b) int8 in {-1, +1}."""

    def encode_soft(self, inputs: Images | Rows) -> tuple[Tensor, Tensor]:
        """Codes (M, b) int8 in {-1, +1}, and the soft values (M, b) in (-1, 1) whose signs they are."""


class HashNetwork(nn.Module):
    """A backbone followed by a hashing model; maps inputs of the backbone to codes.

    Args:
        backbone: maps images, or rows of stored features, to features. See `Backbone` and `StoredBackbone`.
        hashing_model: maps features to codes.

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
            views: inputs of the backbone: (M, 3, H, W) pixels each, or (M,) rows of stored features each.
            gathers: whether the M images are this process's share of a batch, which is gathered for the hashing model.
        """
        features = self.backbone(torch.cat(list(views)))
        if gathers:
            features = gather(features.unflatten(0, (len(views), -1)), dim=1).flatten(end_dim=1)
        return self.hashing_model(features, len(views))

    @torch.no_grad()
    def encode(self, inputs: Images | Rows) -> Tensor:
        """Codes (M, b) int8 in {-1, +1} of inputs of the backbone: +1 if the logit is at least 0.

        The result does not depend on the rest of the batch or on train mode.

        Raises:
            InputError: if a logit is not finite, since its code would look valid.
        """
        return sign(self._eval_logits(inputs)).to(torch.int8)

    @torch.no_grad()
    def encode_soft(self, inputs: Images | Rows) -> tuple[Tensor, Tensor]:
        """Codes as returned by `encode`, and the model's soft values (M, b) float32, from one forward pass.

        The soft values give queries more information than their bits, see `search.nearest_by_values`.
        """
        logits = self._eval_logits(inputs)
        return sign(logits).to(torch.int8), self.hashing_model.soft(logits.float())

    def _eval_logits(self, inputs: Images | Rows) -> Tensor:
        """Logits (M, b), computed in eval mode regardless of the current mode."""
        training = self.training
        if training:
            self.eval()
        logits: Tensor = self.hashing_model.head(self.backbone(inputs))
        if training:
            self.train()
        _require_finite(logits)
        return logits


def _require_head_memory(in_features: int, bits: int, hidden_features: int | None) -> None:
    """Raises `InputError`, naming the largest option, if the head does not fit in memory; None for a linear head."""
    if hidden_features is None:
        require_memory("bits", bits, 4 * bits * in_features)
        return
    hidden = "hashing_model.hidden_features"
    name, value = ("bits", bits) if bits > hidden_features else (hidden, hidden_features)
    require_memory(name, value, 4 * hidden_features * (in_features + bits))


def _require_finite(logits: Tensor) -> None:
    """Raises `InputError`, naming at most three images, if any of the logits (M, b) is not finite."""
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
