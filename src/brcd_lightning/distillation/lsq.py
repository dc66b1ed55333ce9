"""Least squares: ridge regression from student features onto the teacher's codes.

Shapes: n images, d features of the student, b bits, L candidates for lambda.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor

from brcd_lightning.codes import sign
from brcd_lightning.distillation.base import ClosedFormMethod, Solution, Views
from brcd_lightning.distributed.threads import single_thread
from brcd_lightning.errors import InputError

Target = Literal["codes", "logits"]
Penalty = Annotated[float, Interval(ge=1e-12, le=1e12)]
"""Below this range, weights of directions in which the features do not vary overflow single precision."""
LAMBDAS = torch.logspace(-6, 1, 15, dtype=torch.float64)
"""Candidates, two per decade."""
_EPS = 1e-6
_ROWS_AT_ONCE = 1 << 12


class RidgePath:
    """Ridge regressions of the same data for any lambda, from one decomposition.

    Each minimises ``||X W - Y||^2 / n + lambda ||W||^2``. scikit-learn's alpha is n times lambda.

    Args:
        inputs: X (n, d) float64, columns with mean 0.
        targets: Y (n, b) float64, columns with mean 0.
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets
        values, self._vectors = torch.linalg.eigh(inputs.T @ inputs / len(inputs))
        self._values = values.clamp_min(0)
        self._moments = self._vectors.T @ (inputs.T @ targets / len(inputs))  # (d, b)

    def weight(self, lambda_: float) -> Tensor:
        """W (d, b) for a lambda above 0."""
        return self._vectors @ (self._moments / (self._values + lambda_)[:, None])

    def leave_one_out_errors(self, lambdas: Tensor) -> Tensor:
        """Leave-one-out mean squared error for each lambda, with the means refitted.

        The leave-one-out residual of an image is its residual divided by one minus its leverage.

        Args:
            lambdas: (L,) above 0.

        Returns:
            (L,) float64, averaged over images and bits.
        """
        n = len(self.inputs)
        inverse = 1 / (self._values[:, None] + lambdas)  # (d, L)
        errors = torch.zeros_like(lambdas)
        blocks = zip(self.inputs.split(_ROWS_AT_ONCE), self.targets.split(_ROWS_AT_ONCE), strict=True)
        for inputs, targets in blocks:
            rotated = inputs @ self._vectors
            leverages = (1 + rotated.square() @ inverse) / n  # (rows, L); the 1 belongs to the intercept
            for place in range(len(lambdas)):
                residuals = targets - rotated @ (self._moments * inverse[:, place, None])
                errors[place] += (residuals / (1 - leverages[:, place, None])).square().sum()
        return errors / self.targets.numel()


class LSQ(ClosedFormMethod):
    """Solves for the linear head whose logits are closest to the teacher's codes.

    Features are standardised and the targets are centred; both are folded into the head.

    Args:
        target: ``codes``, or ``logits`` for the teacher's logits scaled to unit variance per bit.
        lambda_: weight of the penalty, above 0; None for the value of `LAMBDAS` with the smallest leave-one-out error.
        views: see `ClosedFormMethod`. Views of an image count as separate images in the leave-one-out error.
    """

    def __init__(self, target: Target = "codes", lambda_: Penalty | None = None, views: Views = 0) -> None:
        super().__init__(views)
        self.target, self.lambda_ = target, lambda_

    def solve(self, features: Tensor, logits: Tensor) -> Solution:
        """See `ClosedFormMethod.solve`; computed in float64 on one thread, bitwise reproducible."""
        rows = features.detach().cpu().double()
        if not bool(rows.isfinite().all()):
            raise InputError("features of the student must be finite; its backbone's weights may be damaged.")
        with single_thread(), torch.no_grad():
            targets = self._targets(logits.detach().cpu())
            mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0) + _EPS
            means = targets.mean(dim=0)
            path = RidgePath((rows - mean) / deviation, targets - means)
            chosen = self.lambda_
            if chosen is None:
                chosen = LAMBDAS[path.leave_one_out_errors(LAMBDAS).argmin()].item()
            weight = path.weight(chosen) / deviation[:, None]
            return Solution(weight, means - mean @ weight, {"lambda": chosen})

    def _targets(self, logits: Tensor) -> Tensor:
        """Targets (n, b) float64 from logits (n, b) of the teacher."""
        if self.target == "codes":
            return sign(logits).double()
        deviation = logits.double().std(dim=0, correction=0)
        return logits.double() / torch.where(deviation > 0, deviation, 1.0)
