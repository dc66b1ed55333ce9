"""The contract of a distillation method."""

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
    """One batch as a distillation method sees it (M images, b bits); a field that it does not need is None.

    All codes of the student are training codes with a gradient, all codes of the teacher lie in {-1, +1}.
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
    """(M, 4, b) student codes of a view turned by 0, 90, 180 and 270 degrees."""
    teacher_rotations: Tensor | None = None
    """(M, 4, b) teacher codes of the same."""
    student_positives: Tensor | None = None
    """(M, P, b) student codes of class positives."""
    teacher_positives: Tensor | None = None
    """(M, P, b) teacher codes of the same."""


def needed(tensor: Tensor | None, need: str) -> Tensor:
    """A tensor that a method gets because its `KDMethod.needs` names `need`.

    Raises:
        RuntimeError: if it is missing, which means that `needs` does not name it.
    """
    if tensor is None:
        raise RuntimeError(f"{need} is missing; a method that uses it must name it in its `needs`.")
    return tensor


def require_clusters(num_clusters: PositiveInt, num_images: int) -> None:
    """Raises `InputError` for more clusters than training images, or than the machine can compare all images with."""
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
    """A pure loss in a thin module; its parameters train and its persistent buffers are saved with the student.

    Args:
        weight: factor of the method's loss beside the hashing loss, at least 0.

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

    # Set by a class; a constructor may set another value where it depends on the options.
    needs: frozenset[str] = frozenset()
    """Inputs that the run must provide: ``teacher`` (codes of the anchors), ``teacher_view`` (codes of one
    augmentation), ``rotations`` and ``positives`` (codes of those images), ``training_labels`` (for `prepare`),
    ``views`` (augmentations for a method that solves)."""
    rotation_views: str = "none"
    """For a method that needs rotations: ``shared`` or ``independent``, see `Extras`."""
    num_positives: int = 0
    """For a method that needs positives: number of positives of each image in a batch."""
    solves: bool = False
    """True if the method solves for the student's head instead of training it, see `ClosedFormMethod`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:  # options of every method are held against their annotations
            checked("kd_method")(cls)

    @checked("kd_method")
    def __init__(self, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @property
    def uses_labels(self) -> bool:
        """True if labels of training images reach the method; tables say so."""
        return bool(self.needs & {"training_labels", "positives"})

    def setup(self, num_images: int, bits: int, steps_per_epoch: int) -> None:
        """Called once before anything trains; a method makes here what depends on these sizes.

        Args:
            num_images: n of the training split.
            bits: code length b.
            steps_per_epoch: batches of an epoch.

        Raises:
            InputError: for options that cannot work with them.
        """

    def prepare(self, teacher_codes: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Called at every fit start if the method needs anything at all.

        Args:
            teacher_codes: (n, b) of the training split, in index order.
            labels: (n,) class indices or (n, C) multi-hot of the training split; None unless they are needed.

        Returns:
            Named tensors worth keeping beside the run (written to ``teacher_codes.safetensors``).
        """
        return {}

    @abstractmethod
    def forward(self, batch: KDInput) -> KDOutput:
        """Loss terms (already weighted) of one batch."""


class Solution(NamedTuple):
    """A linear head (d features, b bits): logits are ``features @ weight + bias``."""

    weight: Tensor
    """(d, b) float64."""
    bias: Tensor
    """(b,) float64."""
    facts: Mapping[str, float]
    """Values worth logging."""


class ClosedFormMethod(KDMethod):
    """A method that solves for a linear head of the student, which must be frozen below.

    Args:
        views: augmented views of each image that join the image itself, with its logits of the teacher.
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
            features: (n, d) of the student, under the evaluation transform; where the method asks for views, then
                those of views.
            logits: (n, b) of the teacher, of the same images under the evaluation transform.
        """

    def forward(self, batch: KDInput) -> KDOutput:
        """No terms: nothing trains."""
        return KDOutput(terms={}, diagnostics={})
