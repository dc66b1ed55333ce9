"""A backbone whose features are looked up by row instead of computed from images."""

from __future__ import annotations

from torch import Tensor

from brcd_lightning.backbones import Backbone, Rows
from brcd_lightning.data.features.table import FeatureTable


class StoredBackbone(Backbone):
    """Replaces a backbone in a network whose batches hold rows.

    The backbone is fully frozen, or belongs to a trained teacher. Network, mean and standard deviation are shared with
    it, so parameters and state dict keys are the same and checkpoints load both ways.

    Args:
        backbone: the backbone that the features were computed with.
        table: features (M, d) of rows (M,).
    """

    def __init__(self, backbone: Backbone, table: FeatureTable) -> None:
        super().__init__(backbone.network, backbone.num_features, backbone.normalisation, backbone.freeze)
        self.table = table

    @property
    def online(self) -> Backbone:
        """A backbone that computes features from images and shares the weights."""
        return Backbone(self.network, self.num_features, self.normalisation, self.freeze)

    def forward(self, rows: Rows) -> Tensor:
        """Returns features (M, d) of rows (M,)."""
        return self.table(rows)
