"""No distillation: the baseline, a student that trains on its hashing loss alone."""

from __future__ import annotations

from brcd_lightning.distillation.base import KDInput, KDMethod, KDOutput


class NoDistillation(KDMethod):
    """Asks nothing of the teacher and adds no loss; the teacher still encodes the database for ASHP."""

    def forward(self, batch: KDInput) -> KDOutput:
        """No terms."""
        return KDOutput(terms={}, diagnostics={})
