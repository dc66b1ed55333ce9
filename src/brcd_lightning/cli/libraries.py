"""Settings of the libraries for the process of a training."""

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
"""Parts of warnings that do not hold here."""


def configure_libraries() -> None:
    """Sets what torch and Lightning do in this process. Only a command may call it: it changes the whole process."""
    if not torch.cuda.is_available():
        # Lightning has torch look for NVIDIA's driver by loading its library, which an optimiser does in every step;
        # where there is none, that takes longer than the step of a small head.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    # With deterministic algorithms torch fills every new tensor first, for code that reads what it never wrote. Nothing
    # here does, and the fills are a twelfth of a step on stored features.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # made at import
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no device lists and no advertisements
    for part in _NOT_SHOWN:
        warnings.filterwarnings("ignore", message=f".*{part}.*")
