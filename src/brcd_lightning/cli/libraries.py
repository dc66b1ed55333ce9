"""Library settings for a training process."""

from __future__ import annotations

import logging
import os
import warnings

import lightning  # noqa: F401 (sets the level of its logger, which is set again here)
import torch

_NOT_SHOWN = (
    "does not have many workers",
    "is smaller than the logging interval",
    "in eval mode at the start of training",  # frozen backbones are
    "exists and is not empty",
    "`srun` command is available",  # `distributed.processes.require_processes` knows better
    "your dataloader is not resumable",  # the data module is
    "treespec, LeafSpec",
    "sync_dist=True",  # metrics of gathered codes are the same everywhere
)
"""Parts of warnings that do not apply here."""


def configure_libraries() -> None:
    """Configures torch and Lightning. Only a command may call it, because it changes the whole process."""
    if not torch.cuda.is_available():
        # Lightning makes torch look for NVIDIA's driver by loading its library, which an optimiser does in every
        # step. Without a driver, the search takes longer than a step of a small head.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    # With deterministic algorithms, torch fills every new tensor, for code that reads uninitialised memory. This code
    # never does, and the fills take a twelfth of a step on stored features.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # made at import
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no device lists and no advertisements
    for part in _NOT_SHOWN:
        warnings.filterwarnings("ignore", message=f".*{part}.*")
