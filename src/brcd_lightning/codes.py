"""Hash codes: sign, straight-through gradient, bit packing, Hamming distance.

A code is a row of values in {-1, +1}; `packed` is the same row as uint8, eight bits a byte.
Shapes: N rows, Q queries, b bits, B = ceil(b / 8) bytes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_positive_int


def sign(x: Tensor) -> Tensor:
    """Returns +1 where ``x >= 0`` and -1 elsewhere, in the dtype of `x`.

    Unlike `torch.sign` it never returns 0, which is not a bit: XOR packing and Hamming identities need two values.
    """
    return torch.where(x >= 0, 1, -1).to(x.dtype)


class _SignSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return sign(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def sign_ste(x: Tensor) -> Tensor:
    """Sign with +1 at 0 whose gradient is the identity (straight-through estimator)."""
    return _SignSTE.apply(x)


def check_codes(codes: Tensor, name: str = "codes") -> None:
    """Raises `InputError` unless `codes` is a (N, b) tensor with values in {-1, +1}."""
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise InputError(f"{name} must have shape (rows, bits), got {tuple(codes.shape)}.")
    if not bool((codes.abs() == 1).all()):
        raise InputError(f"{name} must hold only -1 and +1; binarise logits with codes.sign first.")


def pack(codes: Tensor) -> Tensor:
    """Packs codes into bytes.

    Args:
        codes: (N, b) with values in {-1, +1}.

    Returns:
        (N, ceil(b / 8)) uint8; bit r of a code is bit ``r % 8`` (least significant first) of byte ``r // 8``,
        1 for +1; the padding bits of the last byte are 0.

    Raises:
        InputError: for another shape or other values.
    """
    check_codes(codes)
    packed = np.packbits(codes.detach().cpu().numpy() > 0, axis=1, bitorder="little")
    return torch.from_numpy(packed).to(codes.device)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Inverts `pack`.

    Args:
        packed: (N, ceil(bits / 8)) uint8.
        bits: code length b.

    Returns:
        (N, bits) int8 with values in {-1, +1}.

    Raises:
        InputError: if the width does not belong to `bits`, or `packed` is not uint8.
    """
    require_positive_int("bits", bits)
    width = (bits + 7) // 8
    if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] != width:
        raise InputError(
            f"packed codes of {bits} bits must be uint8 of shape (rows, {width}), "
            f"got {packed.dtype} of shape {tuple(packed.shape)}."
        )
    ones = np.unpackbits(packed.cpu().numpy(), axis=1, count=bits, bitorder="little")
    return torch.from_numpy(ones.astype(np.int8) * 2 - 1).to(packed.device)


def hamming_distance(queries: Tensor, database: Tensor) -> Tensor:
    """Hamming distances between every pair of codes.

    Args:
        queries: (Q, b) in {-1, +1}.
        database: (N, b) in {-1, +1}.

    Returns:
        (Q, N) int64 in [0, b], from ``(b - <q, d>) / 2``.
    """
    if queries.shape[1] != database.shape[1]:
        raise InputError(
            f"queries and database must have the same bits, got {queries.shape[1]} and {database.shape[1]}."
        )
    products = queries.float() @ database.float().T  # exact: integers far below 2^24
    return ((queries.shape[1] - products) / 2).round().long()
