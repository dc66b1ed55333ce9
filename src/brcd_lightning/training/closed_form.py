"""The callback that fits the head of a network that does not train."""

from __future__ import annotations

import lightning as L
from torch import Tensor

from brcd_lightning.hashing.closed_form import ClosedFormModel
from brcd_lightning.training.hashing_module import HashingModule
from brcd_lightning.training.whole_split import collect


class ClosedFormFit(L.Callback):
    """Fits the head before a validation, on the features of the training images under the evaluation transform.

    Every process fits on the features of all of them; the result of the first one is what all use.

    Args:
        seed: of random draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fits the network of a `HashingModule`."""
        if not isinstance(pl_module, HashingModule):
            raise TypeError(f"only a HashingModule has a head to fit, got {type(pl_module).__name__}.")
        self._fit(trainer, pl_module)
        head = pl_module.network.hashing_model.head
        state: dict[str, Tensor] = {name: value.cpu() for name, value in head.state_dict().items()}
        head.load_state_dict(trainer.strategy.broadcast(state))

    def _fit(self, trainer: L.Trainer, module: HashingModule) -> None:
        network = module.network
        model = network.hashing_model
        if not isinstance(model, ClosedFormModel):
            raise TypeError(f"{type(model).__name__} trains; it has nothing to fit.")
        features, _ = collect(trainer, module, "train", network.backbone, "Collecting features")
        model.fit(features, self.seed)
