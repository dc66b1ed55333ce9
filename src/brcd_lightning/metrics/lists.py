"""Ranked lists of relevance, and the metrics that are read off them in order.

A database smaller than K is ranked as a whole: hits are then counted in N places. P@K still divides by K, as trec_eval
does. A list that was cut before the K-th place is refused, because what follows is unknown.

Labels say what is relevant, in one of three kinds:

| kind | queries | database | relevant |
|---|---|---|---|
| class indices | (Q,) | (N,) | the same class |
| multi-hot | (Q, C) | (N, C) | at least one class in common |
| lists of ids | (Q, R) | (N,) ids of the items | items whose ids stand in the query's list; -1 fills short lists up |

Shapes: Q queries, N database items, K the cut of the ranking, K' length of a list, C classes, R ids in a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from brcd_lightning.errors import InputError, require_choice, require_positive_int
from brcd_lightning.metrics.ties import NORMALIZERS

_BLOCK = 1 << 26  # relevance values held at a time


class RankedLists(NamedTuple):
    """Items that each query retrieved, best first."""

    relevance: Tensor
    """(Q, K') bool."""
    total: Tensor | None
    """(Q,) int64, relevant items in the whole database; None where they were not counted."""
    database_size: int | None = None
    """N; None where unknown, and no metric then goes beyond the length of the lists."""

    def top(self, k: int) -> Tensor:
        """Relevance of the top K (Q, min(K, N)) bool.

        Raises:
            InputError: if the lists end before the K-th place although the database does not.
        """
        require_positive_int("k", k)
        length, size = self.relevance.shape[1], self.database_size
        if length < k and (size is None or length < size):
            more = f"more of the {size} database items" if size else "more, or give database_size if this is all of it"
            raise InputError(f"k must be at most the length of the lists, {length}, got {k}; retrieve {more}.")
        return self.relevance[:, :k]


def ranked_lists(positions: Tensor, query_labels: Tensor, database_labels: Tensor) -> RankedLists:
    """Judges retrieved items, of `nearest_codes` or of a `HammingIndex`.

    Args:
        positions: (Q, K') int64 database positions, best first; the ids of an index where those are positions.
        query_labels: (Q,) class indices, (Q, C) multi-hot, or (Q, R) lists of relevant ids.
        database_labels: (N,) or (N, C), the same kind; of lists (N,) ids.

    Raises:
        InputError: for empty slots (-1), which an approximate index leaves: metrics of such lists would compare
            rankings of different lengths.

    Examples:
        >>> import torch
        >>> lists = ranked_lists(torch.tensor([[2, 0, 1]]), torch.tensor([7]), torch.tensor([7, 5, 7]))
        >>> lists.relevance.tolist(), lists.total.tolist()
        ([[True, True, False]], [2])
    """
    check_label_kinds(query_labels, database_labels)
    check_label_values(query_labels, database_labels)
    if positions.is_floating_point() or positions.ndim != 2:
        raise InputError(f"positions must be (queries, K) integers, got {positions.dtype} of {tuple(positions.shape)}.")
    if len(positions) != len(query_labels):
        raise InputError(f"each query needs one label, got {len(positions)} queries and {len(query_labels)} labels.")
    if positions.numel() and int(positions.max()) >= len(database_labels):
        raise InputError(
            f"positions must be below the {len(database_labels)} database labels, got {int(positions.max())}; an index "
            "with ids of its own needs them mapped back to positions."
        )
    short = int((positions < 0).any(dim=1).sum())
    if short:
        raise InputError(
            f"{short} of {len(positions)} queries have empty slots among their {positions.shape[1]} results, so no "
            "ranking metric of them is true; use an exact index, or one that reads more (probes, flips)."
        )
    ordered = positions.sort(dim=1).values
    if bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        raise InputError("positions must be distinct in the results of each query.")
    relevance = relevance_of(query_labels, database_labels, positions)
    return RankedLists(relevance, relevant_totals(query_labels, database_labels), len(database_labels))


def relevance_of(query_labels: Tensor, database_labels: Tensor, positions: Tensor) -> Tensor:
    """Relevance of each retrieved item to its query.

    Args:
        query_labels: (Q,) class indices, (Q, C) multi-hot, or (Q, R) lists of relevant ids.
        database_labels: (N,) or (N, C), the same kind; of lists (N,) ids.
        positions: (Q, K) int64 database positions.

    Returns:
        (Q, K) bool: the same class, at least one shared label, or an id of the list.

    Examples:
        >>> import torch
        >>> relevance_of(torch.tensor([7]), torch.tensor([7, 5, 7]), torch.tensor([[2, 1]])).tolist()
        [[True, False]]
    """
    check_label_kinds(query_labels, database_labels)
    found = database_labels[positions]
    if are_lists(query_labels, database_labels):
        return _in_lists(found, query_labels)
    if query_labels.ndim == 1:
        return found == query_labels[:, None]
    return (found.bool() & query_labels[:, None].bool()).any(dim=-1)


def relevance_matrix(query_labels: Tensor, database_labels: Tensor) -> Tensor:
    """Relevance of every database item to every query: (Q, N) bool."""
    check_label_kinds(query_labels, database_labels)
    if are_lists(query_labels, database_labels):
        return _in_lists(database_labels.expand(len(query_labels), -1), query_labels)
    if query_labels.ndim == 1:
        return query_labels[:, None] == database_labels[None, :]
    return query_labels.float() @ database_labels.float().T > 0


def relevant_totals(query_labels: Tensor, database_labels: Tensor) -> Tensor:
    """Relevant items in the whole database (Q,) int64."""
    check_label_kinds(query_labels, database_labels)
    if are_lists(query_labels, database_labels):
        there = _count_of(query_labels.flatten(), database_labels).view_as(query_labels)
        return torch.where(query_labels >= 0, there, 0).sum(dim=1)
    if query_labels.ndim == 1:
        return _count_of(query_labels, database_labels)
    step = max(1, _BLOCK // len(database_labels))
    parts = query_labels.split(step)
    return torch.cat([relevance_matrix(part, database_labels).sum(dim=1) for part in parts])


def are_lists(query_labels: Tensor, database_labels: Tensor) -> bool:
    """True for queries with lists of relevant ids (Q, R) and a database of ids (N,)."""
    return query_labels.ndim == 2 and database_labels.ndim == 1


def _in_lists(ids: Tensor, lists: Tensor) -> Tensor:
    """True where an id stands in the list of its row (Q, n) bool, from ids (Q, n) and lists (Q, R)."""
    lists, ids = lists.long().sort(dim=1).values, ids.long().contiguous()
    place = torch.searchsorted(lists, ids).clamp_(max=lists.shape[1] - 1)
    return (lists.gather(1, place) == ids) & (ids >= 0)


def _count_of(labels: Tensor, database_labels: Tensor) -> Tensor:
    """Number of database items (N,) of each label (n,): (n,) int64."""
    found, counts = database_labels.unique(return_counts=True)
    place = torch.searchsorted(found, labels).clamp(max=len(found) - 1)
    return torch.where(found[place] == labels, counts[place], 0)


def check_one_label_each(name: str, rows: Tensor, labels: Tensor) -> None:
    """Raises `InputError` unless there is at least one row (n, ...) and a label (n,) or (n, C) for each."""
    if len(rows) == 0 or len(rows) != len(labels):
        raise InputError(f"{name} needs one label per row, got {len(rows)} rows and {len(labels)} labels.")


def check_label_kinds(query_labels: Tensor, database_labels: Tensor) -> None:
    """Raises `InputError` unless both labels are of one of the three kinds."""
    for name, labels in (("query_labels", query_labels), ("database_labels", database_labels)):
        if not isinstance(labels, Tensor):
            raise InputError(f"{name} must be a tensor, got {type(labels).__name__}; use torch.as_tensor.")
    if are_lists(query_labels, database_labels):
        _check_lists(query_labels)
        return
    if query_labels.ndim != database_labels.ndim:
        raise InputError(
            "query_labels and database_labels must both be class indices, both be multi-hot, or be lists of ids (Q, R) "
            f"and ids (N,), got shapes {tuple(query_labels.shape)} and {tuple(database_labels.shape)}."
        )
    if query_labels.ndim not in (1, 2) or query_labels.shape[1:] != database_labels.shape[1:]:
        raise InputError(
            "multi-hot labels must be (rows, classes) with the same classes, got shapes "
            f"{tuple(query_labels.shape)} and {tuple(database_labels.shape)}."
        )


def check_label_values(query_labels: Tensor, database_labels: Tensor) -> None:
    """Raises `InputError` for values that are not labels of their kind, see `check_label_kinds`."""
    lists = are_lists(query_labels, database_labels)
    for name, labels in (("query_labels", query_labels), ("database_labels", database_labels)):
        if labels.ndim == 1:
            if labels.is_complex() or not bool(((labels >= 0) & (labels == labels.round())).all()):
                raise InputError(f"{name} must be whole numbers of at least 0, such as class indices.")
        elif not lists and not bool(((labels == 0) | (labels == 1)).all()):
            raise InputError(f"{name} of shape {tuple(labels.shape)} are multi-hot and must hold only 0 and 1.")


def _check_lists(lists: Tensor) -> None:
    """Refuses lists that name an id twice: they may be multi-hot labels, whose database is described otherwise."""
    if lists.shape[1] == 0 or lists.is_floating_point():
        raise InputError(f"lists of ids must be (Q, R) whole numbers, got {lists.dtype} of shape {tuple(lists.shape)}.")
    ordered = lists.sort(dim=1).values
    if bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()):
        raise InputError(
            "lists of relevant ids must name each id once; multi-hot query_labels need multi-hot database_labels."
        )


def list_average_precision(relevance: Tensor, k: int, normalizer: str = "topk", total: Tensor | None = None) -> Tensor:
    """AP@K of ranked lists.

    Args:
        relevance: (Q, K') bool, best first, of at least K places or of the whole database, see `RankedLists.top`.
        k: cut of the ranking.
        normalizer: see `average_precision`.
        total: (Q,) all relevant items of each query; not needed for ``topk``.

    Returns:
        (Q,) float64 in [0, 1].

    Examples:
        >>> import torch
        >>> list_average_precision(torch.tensor([[True, False, True]]), k=3).tolist()
        [0.8333333333333333]
    """
    require_positive_int("k", k)
    require_choice("normalizer", normalizer, NORMALIZERS)
    hits = relevance[:, :k].double()
    places = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
    gain = hits.cumsum(dim=1).div_(places).mul_(hits).sum(dim=1)
    if normalizer == "topk":
        return gain / hits.sum(dim=1).clamp_min(1)
    if total is None:
        raise InputError(f"normalizer {normalizer} needs the total of relevant items of each query.")
    return gain / (total.clamp(max=k) if normalizer == "min" else total).clamp_min(1)


def precision_at_k(lists: RankedLists, k: int) -> Tensor:
    """P@K (Q,) float64: hits in the top K over K (the denominator is K even for a smaller database).

    Examples:
        >>> import torch
        >>> lists = ranked_lists(torch.tensor([[2, 0, 1]]), torch.tensor([7]), torch.tensor([7, 5, 7]))
        >>> precision_at_k(lists, k=3).tolist()
        [0.6666666666666666]
    """
    return lists.top(k).sum(dim=1).double() / k


def recall_at_k(lists: RankedLists, k: int) -> Tensor:
    """R@K (Q,) float64: hits in the top K over all relevant items; 0 for a query that has none.

    Examples:
        >>> import torch
        >>> lists = ranked_lists(torch.tensor([[2, 0, 1]]), torch.tensor([7]), torch.tensor([7, 5, 7]))
        >>> recall_at_k(lists, k=1).tolist()
        [0.5]
    """
    if lists.total is None:
        raise InputError("recall needs the total of relevant items of each query.")
    return lists.top(k).sum(dim=1).double() / lists.total.clamp_min(1)


def precision_curve(lists: RankedLists) -> Tensor:
    """Precision at every k up to the length of the lists, mean over queries: (K',) float64.

    Examples:
        >>> import torch
        >>> lists = ranked_lists(torch.tensor([[2, 0, 1]]), torch.tensor([7]), torch.tensor([7, 5, 7]))
        >>> precision_curve(lists).tolist()
        [1.0, 1.0, 0.6666666666666666]
    """
    places = torch.arange(1, lists.relevance.shape[1] + 1, device=lists.relevance.device)
    return lists.relevance.double().mean(dim=0).cumsum(dim=0) / places


def zero_hits(lists: RankedLists, k: int) -> Tensor:
    """1 for a query without any relevant item in the top K, which `AP@K` counts as 0; otherwise 0: (Q,) float64."""
    return (~lists.top(k).any(dim=1)).double()


def zero_hit_rate(lists: RankedLists, k: int) -> Tensor:
    """Share of queries without any relevant item in the top K (scalar float64), see `zero_hits`.

    Examples:
        >>> import torch
        >>> zero_hit_rate(RankedLists(torch.tensor([[True, False], [False, False]]), total=None), k=2).item()
        0.5
    """
    return zero_hits(lists, k).mean()


def chunks(rows: int, per_row: int, budget: int) -> Iterator[slice]:
    """Slices of `rows` rows that stay within `budget` bytes at `per_row` bytes a row, one row at least."""
    require_positive_int("memory_budget", budget)
    step = max(1, budget // per_row)
    return (slice(start, start + step) for start in range(0, rows, step))
