"""Codes of a trained network, computed once for all rows of its stored features."""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.backbones import Rows
from brcd_lightning.data.features.stored_backbone import StoredBackbone
from brcd_lightning.hashing.base import HashNetwork

_ROWS_AT_ONCE = 1 << 14


class StoredCodes:
    """An `Encoder` of rows that looks up precomputed codes.

    Args:
        codes: (rows, b) int8 in {-1, +1}, of every row of a `FeatureTable`.
        network: network of the codes. It computes soft values on demand: they would take four times the memory, and
            only queries need them.
    """

    def __init__(self, codes: Tensor, network: HashNetwork) -> None:
        self.codes, self._network = codes, network

    @classmethod
    def of(cls, network: HashNetwork, device: torch.device) -> StoredCodes | None:
        """Encodes all stored features of a network, on `device`, which is that of the network.

        Returns:
            The codes, or None for a network that computes its features from images.

        Raises:
            InputError: if a logit is not finite, see `HashNetwork.encode`.
        """
        if not isinstance(network.backbone, StoredBackbone):
            return None
        rows = torch.arange(network.backbone.table.rows, device=device)
        return cls(torch.cat([network.encode(part) for part in rows.split(_ROWS_AT_ONCE)]), network)

    def encode(self, inputs: Rows) -> Tensor:
        """Codes (M, b) int8 in {-1, +1} of rows (M,)."""
        return self.codes[inputs]

    def encode_soft(self, inputs: Rows) -> tuple[Tensor, Tensor]:
        """Codes (M, b) of rows (M,), and their soft values (M, b) float32."""
        return self.codes[inputs], self._network.encode_soft(inputs)[1]
