"""Losses of one training step as functions of codes alone, so that ``compile=step`` can compile them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from brcd_lightning.distillation.base import KDInput, KDMethod
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashingModel, HashOutput

COMPILERS = ("c++", "g++", "clang++")
"""Names of C++ compilers; the environment variable ``CXX`` takes precedence."""


class Losses(NamedTuple):
    """Weighted loss terms, whose sum is the loss, and values that are only logged; both by name."""

    terms: dict[str, Tensor]
    diagnostics: dict[str, Tensor]


def hashing_losses(model: HashingModel, weight: float, views: Sequence[HashOutput]) -> Losses:
    """Terms ``hash_*`` of the model's objective, and its diagnostics.

    Args:
        model: the hashing model.
        weight: factor of its objective.
        views: outputs in float32, as many as the objective needs.
    """
    terms = {f"hash_{name}": weight * term for name, term in model.objective(views).items()}
    return Losses(terms, _diagnostics(model, views))


def distillation_losses(
    model: HashingModel,
    weight: float,
    kd_method: KDMethod,
    views: Sequence[HashOutput],
    anchor: HashOutput | None,
    kd_input: KDInput | None,
) -> Losses:
    """Terms ``hash_*`` and ``kd_*`` of a student, and diagnostics of both.

    Args:
        model: the student's hashing model.
        weight: factor of its objective.
        kd_method: the distillation method.
        views: see `hashing_losses`; empty if the objective is not computed.
        anchor: output that the diagnostics describe if there are no views.
        kd_input: input of the method; None for a method without a loss.
    """
    terms, diagnostics = hashing_losses(model, weight, views) if views else Losses({}, {})
    if anchor is not None and not views:
        diagnostics = _diagnostics(model, [anchor])
    if kd_input is not None:
        kd = kd_method(kd_input)
        terms = terms | {f"kd_{name}": term for name, term in kd.terms.items()}
        diagnostics = diagnostics | {f"kd_{name}": value for name, value in kd.diagnostics.items()}
    return Losses(terms, diagnostics)


def _diagnostics(model: HashingModel, views: Sequence[HashOutput]) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.diagnostics(views)


def compiled_losses(losses: Callable[..., Losses], device: torch.device) -> Callable[..., Losses]:
    """Compiles a function of this file with TorchInductor; on a GPU its kernels are replayed as one CUDA graph.

    PyTorch caches compiled code on disk (``TORCHINDUCTOR_CACHE_DIR``), so that later processes only trace. Random
    numbers equal those of the uncompiled function.

    Args:
        losses: called with tensors of the same shapes at every step; new shapes are compiled again.
        device: device of the tensors.

    Raises:
        InputError: if the machine has no C++ compiler.
    """
    require_compiler()
    options: dict[str, Any] = {"fallback_random": True}
    if device.type == "cuda":
        options["triton.cudagraphs"] = True
    return torch.compile(losses, dynamic=False, options=options)


def remembered(part: nn.Module) -> list[str]:
    """Names of the state that a part changes in a step without training it, such as a distillation method's memory."""
    return sorted(part.state_dict().keys() - dict(part.named_parameters()).keys())


def require_compiler() -> None:
    """Raises `InputError` unless there is a C++ compiler, which TorchInductor needs on CPUs and GPUs alike."""
    names = [*filter(None, [os.environ.get("CXX")]), *COMPILERS]
    if not any(map(shutil.which, names)):
        raise InputError(
            f"compile=step needs a C++ compiler, and none of {', '.join(names)} is installed; install one, name it in "
            "the environment variable CXX, or use compile=false."
        )
