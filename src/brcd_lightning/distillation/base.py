"""The interface of distillation methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from annotated_types import Interval
from torch import Tensor, nn

from brcd_lightning.errors import InputError
from brcd_lightning.memory import require_memory
from brcd_lightning.options import NonNegative, PositiveInt, checked

Views = Annotated[int, Interval(ge=0, le=1000)]
"""Number of augmented views of each image."""


@dataclass(frozen=True)
class KDInput:
    """One batch of inputs of a distillation method (M images, b bits); fields that the method does not need are None.

    All student codes are training codes with a gradient, and all teacher codes are in {-1, +1}.
    """

    student: Tensor
    """(M, b) student codes of the anchors."""
    teacher: Tensor
    """(M, b) teacher codes of the anchors."""
    index: Tensor
    """(M,) int64 position of each image in the training split."""
    teacher_view: Tensor | None = None
    """(M, b) teacher codes of one augmentation of each image."""
    student_rotations: Tensor | None = None
    """(M, 4, b) student codes of a view rotated by 0, 90, 180 and 270 degrees."""
    teacher_rotations: Tensor | None = None
    """(M, 4, b) teacher codes of the same rotations."""
    student_positives: Tensor | None = None
    """(M, P, b) student codes of class positives."""
    teacher_positives: Tensor | None = None
    """(M, P, b) teacher codes of the same positives."""


def needed(tensor: Tensor | None, need: str) -> Tensor:
    """Returns a tensor that a method receives because `KDMethod.needs` contains `need`.

    Raises:
        RuntimeError: if it is missing, which means that `needs` does not contain it.
    """
    if tensor is None:
        raise RuntimeError(f"{need} is missing; a method that uses it must name it in its `needs`.")
    return tensor


def require_clusters(num_clusters: PositiveInt, num_images: int) -> None:
    """Raises `InputError` for more clusters than training images, or if the distances to them do not fit in memory."""
    if num_clusters > num_images:
        raise InputError(
            f"kd_method.num_clusters must be at most the number of training images, got {num_clusters} clusters for "
            f"{num_images} images."
        )
    require_memory("kd_method.num_clusters", num_clusters, 8 * num_clusters * num_images)


class KDOutput(NamedTuple):
    """Named loss terms, which the module sums and logs, and values that are only logged."""

    terms: dict[str, Tensor]
    diagnostics: dict[str, Tensor]


class KDMethod(nn.Module, ABC):
    """Thin module around a loss function; its parameters are trained and its persistent buffers saved with the student.

    Args:
        weight: factor of the method's loss relative to the hashing loss, at least 0.

    Examples:
        >>> import torch
        >>> class Pull(KDMethod):
        ...     needs = frozenset({"teacher"})
        ...
        ...     def forward(self, batch):
        ...         return KDOutput({"pull": self.weight * (batch.student - batch.teacher).square().mean()}, {})
        >>> student, teacher = torch.zeros(2, 4), torch.ones(2, 4)
        >>> Pull(weight=0.5)(KDInput(student, teacher, torch.arange(2))).terms
        {'pull': tensor(0.5000)}
    """

    # Set by a class; a constructor may override them depending on the options.
    needs: frozenset[str] = frozenset()
    """Inputs that the run must provide: ``teacher`` (codes of the anchors), ``teacher_view`` (codes of one
    augmentation), ``rotations`` and ``positives`` (codes of those images), ``training_labels`` (for `prepare`),
    ``views`` (augmentations for a closed-form method)."""
    rotation_views: str = "none"
    """For a method that needs rotations: ``shared`` or ``independent``, see `Extras`."""
    num_positives: int = 0
    """For a method that needs positives: number of positives of each image in a batch."""
    solves: bool = False
    """True if the method solves for the student's head instead of training it, see `ClosedFormMethod`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:  # checks the options of every method against their annotations
            checked("kd_method")(cls)

    @checked("kd_method")
    def __init__(self, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @property
    def uses_labels(self) -> bool:
        """True if the method uses labels of training images, which is noted in tables."""
        return bool(self.needs & {"training_labels", "positives"})

    def setup(self, num_images: int, bits: int, steps_per_epoch: int) -> None:
        """Called once before training; creates modules and buffers that depend on these sizes.

        Args:
            num_images: n of the training split.
            bits: code length b.
            steps_per_epoch: number of batches in an epoch.

        Raises:
            InputError: for options that are incompatible with these sizes.
        """

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Called at the start of every fit if `needs` is not empty.

        Args:
            teacher_codes: (n, b) of the training split, in index order.
            labels: (n,) class indices or (n, C) multi-hot of the training split; None unless the method needs them.

        Returns:
            Named tensors to save with the run (written to ``teacher_codes.safetensors``).
        """
        return {}

    @abstractmethod
    def forward(self, batch: KDInput) -> KDOutput:
        """Computes the weighted loss terms of one batch."""


class Solution(NamedTuple):
    """A linear head (d features, b bits): logits are ``features @ weight + bias``."""

    weight: Tensor
    """(d, b) float64."""
    bias: Tensor
    """(b,) float64."""
    facts: Mapping[str, float]
    """Values to log."""


class ClosedFormMethod(KDMethod):
    """A method that solves for a linear head of the student, whose backbone must be frozen.

    Args:
        views: number of augmented views of each image to add, with the teacher's logits of the image as target.
    """

    needs = frozenset({"teacher"})
    solves = True

    def __init__(self, views: Views = 0) -> None:
        super().__init__()
        self.views = views
        if views:
            self.needs |= {"views"}

    @abstractmethod
    def solve(self, features: Tensor, logits: Tensor) -> Solution:
        """Computes the head from n images, d features and b bits.

        Args:
            features: (n, d) student features under the evaluation transform, followed by those of views if the method
                needs views.
            logits: (n, b) teacher logits of the same images under the evaluation transform.
        """

    def forward(self, batch: KDInput) -> KDOutput:
        """Returns no terms, since nothing is trained."""
        return KDOutput(terms={}, diagnostics={})
