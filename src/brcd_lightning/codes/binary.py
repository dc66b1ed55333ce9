"""Hash codes: sign, straight-through gradient, bit packing, Hamming distance.

A code is a row of values in {-1, +1}; `packed` is the same row as uint8, with eight bits per byte.
Shapes: N rows, Q queries, b bits, B = ceil(b / 8) bytes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, require_option


def sign(x: Tensor) -> Tensor:
    """Returns +1 where ``x >= 0`` and -1 elsewhere, in the dtype of `x`.

    Unlike `torch.sign` it never returns 0, because bit packing and the Hamming identities require two values.

    Examples:
        >>> import torch
        >>> sign(torch.tensor([-0.5, 0.0, 2.0]))
        tensor([-1.,  1.,  1.])
    """
    return torch.where(x >= 0, 1, -1).to(x.dtype)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, value: Tensor, x: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def straight_through(value: Tensor, x: Tensor) -> Tensor:
    """Returns `value` exactly, and passes its gradient to `x` unchanged (straight-through estimator).

    Examples:
        >>> import torch
        >>> x = torch.tensor([0.2, -0.7], requires_grad=True)
        >>> straight_through(x.round(), x).sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """
    return _StraightThrough.apply(value, x)


def sign_ste(x: Tensor) -> Tensor:
    """Sign with +1 at 0 whose gradient is the identity (straight-through estimator).

    Examples:
        >>> import torch
        >>> x = torch.tensor([-0.5, 2.0], requires_grad=True)
        >>> (3 * sign_ste(x)).sum().backward()
        >>> x.grad
        tensor([3., 3.])
    """
    return straight_through(sign(x), x)


def require_tensor(name: str, value: object) -> None:
    """Raises `InputError` unless `value` is a dense tensor of numbers (not bool, not complex, no eight-bit float)."""
    if not isinstance(value, Tensor):
        raise InputError(f"{name} must be a tensor, got {type(value).__name__}; use torch.as_tensor.")
    if value.layout != torch.strided or value.is_meta or (value.is_floating_point() and value.dtype.itemsize == 1):
        raise InputError(f"{name} must be a dense tensor of a common type, got {value.dtype} on {value.device}.")
    if value.dtype == torch.bool or value.is_complex():
        raise InputError(f"{name} must hold -1 and +1, or be packed (uint8), got {value.dtype}.")


def check_codes(codes: Tensor, name: str = "codes") -> None:
    """Raises `InputError` unless `codes` is a (N, b) tensor with values in {-1, +1}."""
    require_tensor(name, codes)
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

    Examples:
        >>> import torch
        >>> pack(torch.tensor([[1, -1, -1, -1, -1, -1, -1, -1, 1]]))
        tensor([[1, 1]], dtype=torch.uint8)
    """
    check_codes(codes)
    packed = np.packbits((codes.detach() > 0).cpu().numpy(), axis=1, bitorder="little")
    return torch.from_numpy(packed).to(codes.device)


def unpack(packed: Tensor, bits: PositiveInt) -> Tensor:
    """Inverts `pack`.

    Args:
        packed: (N, ceil(bits / 8)) uint8.
        bits: code length b.

    Returns:
        (N, bits) int8 with values in {-1, +1}.

    Raises:
        InputError: if the width does not match `bits`, or `packed` is not uint8.

    Examples:
        >>> import torch
        >>> unpack(torch.tensor([[5]], dtype=torch.uint8), bits=3)
        tensor([[ 1, -1,  1]], dtype=torch.int8)
    """
    require_option("bits", bits, PositiveInt)
    require_tensor("packed codes", packed)
    width = (bits + 7) // 8
    if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] != width:
        raise InputError(
            f"packed codes of {bits} bits must be uint8 of shape (rows, {width}), "
            f"got {packed.dtype} of shape {tuple(packed.shape)}."
        )
    ones = np.unpackbits(packed.cpu().numpy(), axis=1, count=bits, bitorder="little")
    return torch.from_numpy(ones.astype(np.int8) * 2 - 1).to(packed.device)


def as_packed(codes: Tensor, bits: PositiveInt | None = None, name: str = "codes") -> Tensor:
    """Codes in either form, as bytes.

    Args:
        codes: (N, b) in {-1, +1}, or already packed: (N, ceil(b / 8)) uint8.
        bits: expected code length; any when None.
        name: name of the codes in error messages.

    Returns:
        (N, ceil(b / 8)) uint8.

    Raises:
        InputError: for other values, an unexpected length, or non-zero padding bits.
    """
    require_tensor(name, codes)
    if codes.dtype != torch.uint8:
        if bits is not None and codes.ndim == 2 and codes.shape[1] != bits:
            raise InputError(f"{name} must have {bits} bits, got {codes.shape[1]}.")
        return pack(codes)
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise InputError(f"packed {name} must have shape (rows, bytes), got {tuple(codes.shape)}.")
    if bits is not None:
        width = (bits + 7) // 8
        if codes.shape[1] != width:
            raise InputError(f"packed {name} of {bits} bits must have {width} bytes, got {codes.shape[1]}.")
        if bits % 8 and bool((codes[:, -1] >> (bits % 8)).any()):
            raise InputError(f"packed {name} must be 0 beyond their {bits} bits; see codes.pack.")
    return codes


def as_signs(codes: Tensor, bits: PositiveInt | None = None, name: str = "codes") -> Tensor:
    """Codes in either form, as values in {-1, +1}.

    Args:
        codes: (N, b) in {-1, +1}, or packed (N, ceil(b / 8)) uint8.
        bits: code length b, which packed codes do not contain. Without it, padding bits become columns of -1; these are
            equal in all codes and do not affect Hamming distances.
        name: name of the codes in error messages.

    Returns:
        (N, b); (N, 8 B) for packed codes of B bytes when `bits` is None.

    Raises:
        InputError: for other values, an unexpected length, or non-zero padding bits.
    """
    if bits is not None:
        require_option("bits", bits, PositiveInt)
    if codes.dtype == torch.uint8:
        packed = as_packed(codes, bits, name)
        return unpack(packed, 8 * packed.shape[1] if bits is None else bits)
    check_codes(codes, name)
    if bits is not None and codes.shape[1] != bits:
        raise InputError(f"{name} must have {bits} bits, got {codes.shape[1]}.")
    return codes


def require_same_bits(queries: Tensor, database: Tensor) -> None:
    """Raises `InputError` unless both codes have the same form (packed or not) and length."""
    require_tensor("queries", queries)
    require_tensor("database", database)
    if (queries.dtype == torch.uint8) != (database.dtype == torch.uint8):
        raise InputError("queries and database must both be packed (uint8) or both hold -1 and +1.")
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise InputError(
            "queries and database must be (rows, bits) with the same bits, got shapes "
            f"{tuple(queries.shape)} and {tuple(database.shape)}."
        )


def hamming_distance(queries: Tensor, database: Tensor) -> Tensor:
    """Hamming distances between all pairs of a query and a database code.

    Args:
        queries: (Q, b) in {-1, +1}, or packed (Q, B) uint8.
        database: (N, b), the same form.

    Returns:
        (Q, N) int64 in [0, b], from ``(b - <q, d>) / 2``.

    Examples:
        >>> import torch
        >>> hamming_distance(torch.tensor([[1, 1, -1]]), torch.tensor([[1, 1, -1], [1, -1, 1]]))
        tensor([[0, 2]])
    """
    require_same_bits(queries, database)
    queries, database = as_signs(queries), as_signs(database)
    products = queries.float() @ database.float().T  # exact: integers far below 2^24
    return ((queries.shape[1] - products) / 2).round().long()
