"""The contract of a distillation method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from brcd_lightning.errors import require_non_negative


class KDInput(NamedTuple):
    """One batch as a distillation method sees it (M images, b bits); a field it does not need may be None."""

    student: Tensor
    """(M, b) training codes of the anchors; the only tensor with a gradient."""
    teacher: Tensor
    """(M, b) teacher codes of the anchors, in {-1, +1}."""
    index: Tensor
    """(M,) int64 position of each image in the training split."""
    teacher_view: Tensor | None = None
    """(M, b) teacher codes of one augmentation of each image."""


class KDOutput(NamedTuple):
    """Named loss terms, which the module sums and logs, and values that are only logged."""

    terms: dict[str, Tensor]
    diagnostics: dict[str, Tensor]


class KDMethod(nn.Module, ABC):
    """A pure loss in a thin module; its parameters train and its persistent buffers are saved with the student.

    Args:
        weight: factor of the method's loss beside the hashing loss, at least 0.
    """

    needs: frozenset[str] = frozenset()
    """What the method needs of a run: ``teacher`` (codes of the anchors), ``teacher_view`` (codes of one
    augmentation), ``training_codes`` (`prepare` is called with the teacher codes of the training split)."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        require_non_negative("kd_method.weight", weight)
        self.weight = weight

    def check(self, num_images: int, bits: int) -> None:
        """Called before anything trains, with the size of the training split and the code length.

        Raises:
            InputError: for options that cannot work with them.
        """

    def prepare(self, teacher_codes: Tensor) -> dict[str, Tensor]:
        """Called at every fit start with the teacher codes (n, b) of the training split, in index order.

        Returns:
            Named tensors worth keeping beside the run (written to ``teacher_codes.safetensors``).
        """
        return {}

    @abstractmethod
    def forward(self, batch: KDInput) -> KDOutput:
        """Loss terms (already weighted) of one batch."""
