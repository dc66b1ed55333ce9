"""User-defined ids of codes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.errors import InputError

_LARGEST = 2**62  # leaves room for the ids that follow


def checked_ids(ids: Tensor, count: int | None = None) -> np.ndarray:
    """Ids as (count,) int64.

    Args:
        ids: distinct integers of at least 0.
        count: expected number of ids; any number when None.

    Raises:
        InputError: for anything else.
    """
    try:
        tensor = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"ids must be a tensor of integers, got {type(ids).__name__} ({error}).") from error
    wrong_kind = tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool
    if wrong_kind or tensor.ndim != 1 or count not in (None, len(tensor)):
        wanted = "integers" if count is None else f"{count} integers"
        raise InputError(f"ids must be {wanted}, got {tensor.dtype} of shape {tuple(tensor.shape)}.")
    values: np.ndarray = tensor.cpu().numpy().astype(np.int64)
    outside = values[(values < 0) | (values > _LARGEST)]
    if len(outside):
        raise InputError(f"ids must be at least 0 and at most 2^62, got {few(outside)}.")
    distinct, times = np.unique(values, return_counts=True)
    if len(distinct) < len(values):
        raise InputError(f"ids must be distinct, got more than one of {few(distinct[times > 1])}.")
    return values


def few(values: np.ndarray) -> str:
    """The first five values, for a message."""
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
