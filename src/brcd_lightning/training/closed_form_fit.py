"""Callbacks that compute a head in closed form, as the final head or as the initialisation of training."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor, nn

from brcd_lightning.distillation.base import ClosedFormMethod
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashingModel, HashNetwork
from brcd_lightning.hashing.closed_form import ClosedFormModel
from brcd_lightning.memory import require_memory
from brcd_lightning.options import Positive, Seed, checked
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import HashingModule
from brcd_lightning.training.whole_split import collect, collect_views


@checked()
class ClosedFormFit(L.Callback):
    """Fits the head before a validation, on features under the evaluation transform.

    The hashing model fits itself on the training images, or the distillation method solves for the student's head.
    Every process fits on the features of all images. All processes use the result of the first one.

    Args:
        seed: seed of random draws.
    """

    def __init__(self, seed: Seed = 0) -> None:
        self.seed = seed

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fits the network of a `HashingModule`."""
        if not isinstance(pl_module, HashingModule):
            raise TypeError(f"only a HashingModule has a head to fit, got {type(pl_module).__name__}.")
        method = pl_module.kd_method if isinstance(pl_module, DistillationModule) else None
        if isinstance(pl_module, DistillationModule) and isinstance(method, ClosedFormMethod):
            _solve(trainer, pl_module, method)
        else:
            self._fit(trainer, pl_module)

    def _fit(self, trainer: L.Trainer, module: HashingModule) -> None:
        network = module.network
        model = network.hashing_model
        if not isinstance(model, ClosedFormModel):
            raise TypeError(f"{type(model).__name__} trains; it has nothing to fit.")
        features, _ = collect(trainer, module, "train", network.backbone, "Collecting features")
        model.fit(features, self.seed)
        _share_head(trainer, network)


@checked()
class WarmStart(L.Callback):
    """Solves for the student's head before it trains. A resumed training keeps its weights.

    Args:
        method: method that solves for the head.
        scale: factor of the logits. Regression onto codes gives logits with magnitudes up to 1, but some estimators of
            a sign need larger ones.
    """

    def __init__(self, method: ClosedFormMethod, scale: Positive = 1.0) -> None:
        self.method, self.scale = method, scale

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Solves for the head of a `DistillationModule`."""
        if not isinstance(pl_module, DistillationModule):
            raise TypeError(f"only a DistillationModule has a teacher, got {type(pl_module).__name__}.")
        if trainer.ckpt_path is None:
            _solve(trainer, pl_module, self.method, self.scale)


def _solve(trainer: L.Trainer, module: DistillationModule, method: ClosedFormMethod, scale: float = 1.0) -> None:
    """Replaces the student's head by the one that a method solves for."""
    student, teacher = module.network, module.teacher
    head = require_linear(student.hashing_model)

    def outputs(inputs: Tensor) -> Tensor:
        """Features of the student and logits of the teacher, side by side."""
        logits = teacher.hashing_model.head(teacher.backbone(inputs))
        return torch.cat([student.backbone(inputs).float(), logits.float()], dim=1)

    with torch.no_grad():
        found, _ = collect(trainer, module, "train", outputs, "Collecting features")
        features, logits = found.split([head.in_features, found.shape[1] - head.in_features], dim=1)
        if method.views:
            key = "kd_method.views" if method is module.kd_method else "student.init_options.views"
            require_memory(key, method.views, 16 * (method.views + 1) * features.numel())  # double precision, twice
            views, index = collect_views(trainer, module, student.backbone, method.views)
            features, logits = torch.cat([features, views]), torch.cat([logits, logits[index]])
        weight, bias, facts = method.solve(features, logits)
        head.weight.copy_(scale * weight.T)
        head.bias.copy_(scale * bias)
    _share_head(trainer, student)
    for logger in trainer.loggers:
        logger.log_metrics({f"fit/{name}": value for name, value in facts.items()}, step=0)


def _share_head(trainer: L.Trainer, network: HashNetwork) -> None:
    """Broadcasts the head of the first process."""
    head = network.hashing_model.head
    state: dict[str, Tensor] = {name: value.cpu() for name, value in head.state_dict().items()}
    head.load_state_dict(trainer.strategy.broadcast(state))


def require_linear(model: HashingModel) -> nn.Linear:
    """The head of a student that a distillation method solves for.

    Raises:
        InputError: if it is not a single linear layer.
    """
    if not isinstance(model.head, nn.Linear):
        raise InputError(
            "student.head must be one linear layer for a kd_method that solves for it, got "
            f"{type(model.head).__name__} of {type(model).__name__}; set student.head=linear or another hashing_model."
        )
    return model.head
