"""Hashing models without training: the head is computed from the features of the training images.

Shapes: n training images, d features, b bits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from brcd_lightning.codes import sign_ste
from brcd_lightning.distributed.threads import single_thread
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashingModel, HashOutput


class ClosedFormModel(HashingModel):
    """A hashing model without an objective, whose head is computed by `fit`.

    A student can use such a model with a distillation method that trains; only the distillation loss is used then.
    """

    trains = False

    @abstractmethod
    def solve(self, centred: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Computes the linear map of the model.

        Args:
            centred: (n, d) float64 features minus their mean.
            generator: of random draws.

        Returns:
            W (d, b) and c (b,), float64: the linear layer gives ``centred @ W + c``.

        Raises:
            InputError: if the features do not support b bits.
        """

    def fit(self, features: Tensor, seed: int = 0) -> None:
        """Computes the linear layer of the head, in float64 on one thread, so the result is bitwise reproducible.

        Args:
            features: (n, d) of the training images under the evaluation transform.
            seed: of random draws.

        Raises:
            InputError: for a head that is not linear, non-finite features, or too few features for b bits.
        """
        layer = self.linear_layer()
        rows = features.detach().cpu().double()
        if not bool(rows.isfinite().all()):
            raise InputError("features of the training images must be finite; the backbone's weights may be damaged.")
        with single_thread(), torch.no_grad():
            mean = rows.mean(dim=0)
            projection, offset = self.solve(rows - mean, torch.Generator().manual_seed(seed))
            layer.weight.copy_(projection.T)
            layer.bias.copy_(offset - mean @ projection)

    def linear_layer(self) -> nn.Linear:
        """The linear layer of the head.

        Raises:
            InputError: for an ``mlp`` head.
        """
        layers = [module for module in self.head.modules() if isinstance(module, nn.Linear)]
        if len(layers) != 1:
            raise InputError(f"head must be linear for {type(self).__name__}, which is not trained; got mlp.")
        return layers[0]

    def binarize(self, logits: Tensor) -> Tensor:
        """Sign with a straight-through gradient."""
        return sign_ste(logits)

    def objective(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Returns no terms."""
        return {}


def principal_directions(centred: Tensor, count: int) -> Tensor:
    """Eigenvectors of the covariance with the largest eigenvalues, in descending order.

    The entry of largest magnitude of each eigenvector is positive, so the sign does not depend on the solver.

    Args:
        centred: (n, d) float64 features minus their mean.
        count: number of directions.

    Returns:
        (d, count) float64, orthonormal columns.

    Raises:
        InputError: if the rank of the features is below `count`.
    """
    n, d = centred.shape
    values, vectors = torch.linalg.eigh(centred.T @ centred / n)  # ascending
    rank = int((values > values[-1].clamp_min(0) * max(n, d) * torch.finfo(values.dtype).eps).sum())
    if count > rank:
        raise InputError(
            f"bits must be at most {rank}, the rank of the {d} features of {n} training images, for a hashing model on "
            f"principal components, got {count}; choose fewer bits or more images."
        )
    vectors = vectors.flip(1)[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * largest.sign()


def random_rotation(bits: int, generator: torch.Generator) -> Tensor:
    """Uniform random orthogonal matrix (b, b) float64: QR of a Gaussian matrix, with positive diagonal of R."""
    rotation, upper = torch.linalg.qr(torch.randn(bits, bits, dtype=torch.float64, generator=generator))
    return rotation * torch.where(upper.diagonal() < 0, -1.0, 1.0)
