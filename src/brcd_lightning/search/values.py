"""Float queries: real values of a query against stored bits, by ``score(q, x) = <v(q), c(x)>``; larger is nearer.

The score is not a Hamming distance. Both agree for values in {-1, +1}, where the score is ``b - 2 * distance``.

Shapes: Q queries, N database codes, R candidates per query, b bits, B bytes per code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_positive_int
from brcd_lightning.search.exact import as_bytes

_BLOCK = 1 << 26
"""Bytes of unpacked codes, and of estimated scores, that are held at a time."""
_SAMPLED = 16
"""Sampling step of the scores of a row; the sample gives a lower bound of the best scores."""
_DIGITS = 40
"""Binary digits of a value: a float32 has 24, and sums of 4,096 values with 40 digits are exact in float64."""
_BYTE_SIGNS = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[None], axis=0, bitorder="little") - 1
"""(8, 256): the eight signs of each byte value, see `codes.pack`."""


def as_values(values: Tensor, bits: int | None = None, name: str = "values") -> np.ndarray:
    """Real values of queries as (Q, b) float64, rounded to `_DIGITS` binary digits below the largest value of a query.

    Sums of rounded values are exact in any order, so equal codes have equal scores in every implementation.

    Args:
        values: (Q, b) finite floating-point numbers.
        bits: expected code length; any when None.
        name: name of the values in error messages.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"{name} must be a tensor of floating-point numbers, got {kind}; use HashNetwork.encode_soft.")
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"{name} must have shape (queries, bits), got {tuple(values.shape)}.")
    if bits is not None and values.shape[1] != bits:
        raise InputError(f"{name} must have one value for each of {bits} bits, got {values.shape[1]}.")
    rows: np.ndarray = values.detach().cpu().double().numpy()
    if not np.isfinite(rows).all():
        raise InputError(f"{name} must be finite; check the network that made them.")
    exponent = np.frexp(np.abs(rows).max(axis=1, keepdims=True, initial=0.0))[1]
    return np.ldexp(np.rint(np.ldexp(rows, _DIGITS - exponent)), exponent - _DIGITS)


def nearest_by_values(values: Tensor, codes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best database codes of each query by score, with equal scores in database order. Computed on the CPU.

    All scores are estimated in single precision; those that may be among the best, given its error, are summed exactly.

    Args:
        values: (Q, b) real values of the queries.
        codes: (N, b) database codes in {-1, +1}, or packed (N, B) uint8.
        k: results per query; the whole database when larger than N.

    Returns:
        scores (Q, min(k, N)) float64, descending, and database positions (Q, min(k, N)) int64.

    Examples:
        >>> import torch
        >>> scores, positions = nearest_by_values(torch.tensor([[0.5, -0.25]]), torch.tensor([[1, 1], [1, -1]]), k=2)
        >>> scores.tolist(), positions.tolist()
        ([[0.75, 0.25]], [[1, 0]])
    """
    require_positive_int("k", k)
    queries = as_values(values)
    packed = as_bytes(codes, queries.shape[1])
    k = min(k, len(packed))
    scores, positions = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.int64)
    found = 0  # of k, in the blocks so far
    for start, signs in _unpacked(packed, queries.shape[1]):
        block = packed[start : start + len(signs)]
        kept = min(k, found + len(block))
        for rows, estimates in _estimates(queries, signs):
            best, origin = _best_of_block(queries[rows], block, estimates, min(k, len(block)))
            origin += start
            if found:
                best = np.concatenate([scores[rows, :found], best], axis=1)
                origin = np.concatenate([positions[rows, :found], origin], axis=1)
                order = np.argsort(-best, axis=1, kind="stable")[:, :kept]  # equal scores: earlier blocks first
                best, origin = (np.take_along_axis(each, order, axis=1) for each in (best, origin))
            scores[rows, :kept], positions[rows, :kept] = best, origin
        found = kept
    return torch.from_numpy(scores), torch.from_numpy(positions)


def exact_scores(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Scores of one query with packed codes, from a table of 256 values per byte, without unpacking the codes.

    Args:
        values: (b,) float64, a row of `as_values`.
        codes: (R, B) uint8.

    Returns:
        (R,) float64.
    """
    padded = np.zeros(8 * codes.shape[1])
    padded[: len(values)] = values  # padding bits contribute 0
    tables = padded.reshape(-1, 8) @ _BYTE_SIGNS  # (B, 256)
    total = np.zeros(len(codes))
    for table, column in zip(tables, np.ascontiguousarray(codes.T), strict=True):
        total += table.take(column)
    return total


def _unpacked(packed: np.ndarray, bits: int) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of the database as signs (rows, b) float32, each with its first position."""
    step = max(1, _BLOCK // (4 * bits))
    for start in range(0, len(packed), step):
        ones = np.unpackbits(packed[start : start + step], axis=1, count=bits, bitorder="little")
        yield start, ones.astype(np.float32) * 2 - 1


def _estimates(queries: np.ndarray, signs: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Scores of some queries with all rows of a block, in units of `_unit`; overwritten by the next iteration."""
    step = max(1, _BLOCK // (4 * len(signs)))
    memory = np.empty((min(step, len(queries)), len(signs)), dtype=np.float32)  # allocating takes longer than summing
    scaled = (queries / _unit(queries)).astype(np.float32)
    for start in range(0, len(queries), step):
        part = scaled[start : start + step]
        # NumPy instead of torch, whose matmul precision setting can be coarser than single precision
        yield slice(start, start + step), np.matmul(part, signs.T, out=memory[: len(part)])


def _unit(queries: np.ndarray) -> np.ndarray:
    """A power of two (Q, 1) near the largest value of each query; scaled by it, values fit single precision."""
    unit: np.ndarray = np.ldexp(1.0, np.frexp(np.abs(queries).max(axis=1, keepdims=True, initial=0.0))[1] - 1)
    return unit


def _best_of_block(
    queries: np.ndarray, block: np.ndarray, estimates: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Exact scores (Q, k), descending, and rows (Q, k) of the best codes of a block, by their estimates (Q, rows)."""
    scores, rows = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.int64)
    # b roundings of the sum, one of each value and one of the bound, each at most half a unit in the last place.
    error = (queries.shape[1] + 2) * np.finfo(np.float32).eps * np.abs(queries / _unit(queries)).sum(axis=1)
    for number, (row, bound) in enumerate(zip(estimates, _lower_bounds(estimates, k).tolist(), strict=True)):
        # k codes have exact scores of at least the k-th estimate - error; each is estimated at that - 2 error or more.
        places = _reaching(row, bound, k, slack=2 * float(error[number]))
        exact = exact_scores(queries[number], block.take(places, axis=0))
        best = np.argsort(-exact, kind="stable")[:k]
        scores[number], rows[number] = exact.take(best), places.take(best)
    return scores, rows


def best_places(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest scores of each row, best first; equal scores come in the order of the columns.

    Args:
        scores: (Q, n) without NaN.
        k: at most n.

    Returns:
        (Q, k) int64.
    """
    places = np.empty((len(scores), k), dtype=np.int64)
    bounds = _lower_bounds(scores, k)
    for row, bound, kept in zip(scores, bounds, places, strict=True):
        columns = _reaching(row, bound, k)
        kept[:] = columns[np.argsort(-row[columns], kind="stable")[:k]]
    return places


def _reaching(row: np.ndarray, bound: float, k: int, slack: float = 0.0) -> np.ndarray:
    """Columns that come within `slack` of the k-th largest value; `bound` is a guess that saves time if it is lower."""
    columns = np.flatnonzero(row >= bound - slack)
    values = row.take(columns)
    if np.count_nonzero(values >= bound) < k:
        return np.arange(len(row))
    found: np.ndarray = columns[values >= np.partition(values, -k)[-k] - slack]
    return found


def _lower_bounds(scores: np.ndarray, k: int) -> np.ndarray:
    """A bound (Q,) that, except in rare rows, at least k scores of a row reach and few more; from a sample of columns.

    Only scores that reach it are sorted. Partitioning whole rows takes longer, especially with many equal scores.
    """
    sample = np.ascontiguousarray(scores[:, ::_SAMPLED])
    expected = k / _SAMPLED
    rank = math.ceil(expected + 4 * math.sqrt(expected))  # plus four standard deviations of the number of sampled ones
    if not 0 < rank <= sample.shape[1]:
        return np.full(len(scores), -np.inf)
    return np.partition(sample, -rank, axis=1)[:, -rank]
