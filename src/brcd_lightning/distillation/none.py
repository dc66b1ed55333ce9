"""No distillation: the baseline, a student that is trained only on its hashing loss."""

from __future__ import annotations

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput


class NoDistillation(KDMethod):
    """Adds no loss and does not use the teacher, which still encodes the database for ASHP."""

    def forward(self, batch: KDInput) -> KDOutput:
        """Returns no terms."""
        return KDOutput(terms={}, diagnostics={})
