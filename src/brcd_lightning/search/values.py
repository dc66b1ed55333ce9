"""Float queries: real values of a query against stored bits, by ``score(q, x) = <v(q), c(x)>``; larger is nearer.

The score is no Hamming distance. Both agree for values in {-1, +1}, where the score is ``b - 2 * distance``.

Shapes: Q queries, N database codes, R candidates of a query, b bits, B bytes a code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_positive_int
from brcd_lightning.search.exact import as_bytes

CANDIDATES_PER_RESULT = 10
"""Results of the Hamming search that are rescored for each result asked for, unless a number is given."""
_BLOCK = 1 << 26
"""Bytes of unpacked codes, and of scores, at a time."""
_SAMPLED = 16
"""Every so many scores of a row are looked at first, to find out which can be among the best."""
_DIGITS = 40
"""Binary digits of a value: a float32 has 24, and sums of 4,096 values of 40 digits are exact in float64."""
_BYTE_SIGNS = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[None], axis=0, bitorder="little") - 1
"""(8, 256): the eight signs of every byte, see `codes.pack`."""


def as_values(values: Tensor, bits: int | None = None, name: str = "values") -> np.ndarray:
    """Real values of queries as (Q, b) float64, rounded to `_DIGITS` binary digits below the largest one of a query.

    Sums of rounded values are exact in any order. Equal codes then have equal scores, whatever computes them.

    Args:
        values: (Q, b) finite floating-point numbers.
        bits: code length that is expected; any when None.
        name: what an error message calls the values.

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
    """The k best database codes of each query by score; equal scores come in database order. Computed on the CPU.

    Args:
        values: (Q, b) real values of the queries.
        codes: (N, b) database codes in {-1, +1}, or packed (N, B) uint8.
        k: results per query; the whole database when larger than N.

    Returns:
        scores (Q, min(k, N)) float64, descending, and database positions (Q, min(k, N)) int64.
    """
    require_positive_int("k", k)
    queries = as_values(values)
    packed = as_bytes(codes, queries.shape[1])
    k = min(k, len(packed))
    scores, positions = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.int64)
    found = 0  # of k, in the blocks so far
    for start, signs in _unpacked(packed, queries.shape[1]):
        kept = min(k, found + len(signs))
        for rows, block in _products(queries, signs):
            places = best_places(block, min(k, len(signs)))
            best, origin = np.take_along_axis(block, places, axis=1), places + start
            if found:
                best = np.concatenate([scores[rows, :found], best], axis=1)
                origin = np.concatenate([positions[rows, :found], origin], axis=1)
                order = np.argsort(-best, axis=1, kind="stable")[:, :kept]  # earlier blocks come first among equals
                best, origin = (np.take_along_axis(each, order, axis=1) for each in (best, origin))
            scores[rows, :kept], positions[rows, :kept] = best, origin
        found = kept
    return torch.from_numpy(scores), torch.from_numpy(positions)


def _unpacked(packed: np.ndarray, bits: int) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of the database as signs (rows, b) float64, each with its first position."""
    step = max(1, _BLOCK // (8 * bits))
    for start in range(0, len(packed), step):
        ones = np.unpackbits(packed[start : start + step], axis=1, count=bits, bitorder="little")
        yield start, ones * 2.0 - 1


def _products(queries: np.ndarray, signs: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Scores of some queries with all rows of a block, valid until the next ones are asked for."""
    step = max(1, _BLOCK // (8 * len(signs)))
    memory = torch.empty(min(step, len(queries)), len(signs), dtype=torch.float64)  # new memory takes longer than sums
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        part = torch.from_numpy(queries[rows])
        yield rows, torch.matmul(part, torch.from_numpy(signs).T, out=memory[: len(part)]).numpy()


def rescore_candidates(
    values: np.ndarray, codes: np.ndarray, positions: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Re-orders the candidates of each query by score; equal scores keep the order of the candidates.

    A query reads the scores of its candidates from a table of each byte's 256 values: codes are not unpacked, and only
    those of one query are copied at a time.

    Args:
        values: (Q, b) float64, of `as_values`.
        codes: (N, B) uint8 packed codes; may be memory-mapped.
        positions: (Q, R) int64 rows of `codes`, best first; -1 in an empty slot.
        k: results per query, at most R.

    Returns:
        scores (Q, k) float64, descending, minus infinity in an empty slot, and places (Q, k) int64 in 0..R - 1.
    """
    scores = np.full(positions.shape, -np.inf)
    padded = np.zeros((len(values), 8 * codes.shape[1]))
    padded[:, : values.shape[1]] = values  # bits beyond the code count 0
    for query, candidates in enumerate(positions):
        tables = padded[query].reshape(-1, 8) @ _BYTE_SIGNS  # (B, 256)
        found = np.flatnonzero(candidates >= 0)
        columns = np.ascontiguousarray(codes.take(candidates[found], axis=0).T)
        total = np.zeros(len(found))
        for table, column in zip(tables, columns, strict=True):
            total += table.take(column)
        scores[query, found] = total
    places = best_places(scores, k)
    return np.take_along_axis(scores, places, axis=1), places


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
        columns = np.flatnonzero(row >= bound)
        if len(columns) < k:  # the sample had too many of the largest
            columns = np.arange(len(row))
        kept[:] = columns[np.argsort(-row[columns], kind="stable")[:k]]
    return places


def _lower_bounds(scores: np.ndarray, k: int) -> np.ndarray:
    """A score (Q,) that at least k scores of a row reach, but for rare rows, and few more; from a sample of columns.

    Only what reaches it is sorted. Partitioning whole rows takes longer, most of all with many equal scores.
    """
    sample = np.ascontiguousarray(scores[:, ::_SAMPLED])
    expected = k / _SAMPLED
    rank = math.ceil(expected + 4 * math.sqrt(expected))  # four standard deviations of how many of the k are sampled
    if not 0 < rank <= sample.shape[1]:
        return np.full(len(scores), -np.inf)
    return np.partition(sample, -rank, axis=1)[:, -rank]
