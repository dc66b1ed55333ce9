"""The torchmetrics shells: they gather rows over batches and ranks; the numbers come from this package's functions.

Hashing metrics need whole splits. They are computed once, from tables of all rows, and never averaged over batches
or ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from brcd_lightning.errors import InputError, require_choice

SIDES = ("query", "database")


class _Tables(Metric):
    """Named tables of rows with an index; a row that arrives twice (padding of a sampler) is kept once.

    Args:
        columns: states of each table, by table; ``index`` is added to each.
    """

    full_state_update = False

    def __init__(self, columns: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self._columns = columns
        for table, names in columns.items():
            for name in ("index", *names):
                self.add_state(f"{table}_{name}", default=[], dist_reduce_fx="cat")

    def _append(self, table: str, index: Tensor, *values: Tensor) -> None:
        if any(len(value) != len(index) for value in values):
            lengths = ", ".join(str(len(value)) for value in values)
            raise InputError(f"every row needs one index, got {len(index)} indices for {lengths} rows.")
        for name, value in zip(("index", *self._columns[table]), (index, *values), strict=True):
            getattr(self, f"{table}_{name}").append(value)

    def _rows(self, table: str) -> list[Tensor]:
        """All columns but the index, on the CPU, sorted by index."""
        if isinstance(state := getattr(self, f"{table}_index"), list) and not state:
            raise InputError(f"there are no rows of the {table} to compute from; call update first.")
        index = dim_zero_cat(getattr(self, f"{table}_index")).cpu()
        order = torch.argsort(index, stable=True)
        index = index[order]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]
        rows = order[first]
        return [dim_zero_cat(getattr(self, f"{table}_{name}")).cpu()[rows] for name in self._columns[table]]


class CodeTable(_Tables):
    """Collects (index, code, label) rows; `compute` returns codes (n, b) and labels in index order, on the CPU.

    Examples:
        >>> import torch
        >>> table = CodeTable()
        >>> table.update(torch.tensor([1, 0]), torch.tensor([[1, 1], [-1, -1]]), torch.tensor([7, 8]))
        >>> codes, labels = table.compute()
        >>> codes.tolist(), labels.tolist()
        ([[-1, -1], [1, 1]], [8, 7])
    """

    def __init__(self) -> None:
        super().__init__({"rows": ("codes", "labels")})

    def update(self, index: Tensor, codes: Tensor, labels: Tensor) -> None:
        """Adds M rows: index (M,) int64, codes (M, b) int8, labels (M,) or (M, C)."""
        self._append("rows", index, codes, labels)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns codes (n, b) and labels of all rows."""
        codes, labels = self._rows("rows")
        return codes, labels


class ValueTable(_Tables):
    """Collects (index, values) rows; `compute` returns the values (n, b) in index order, on the CPU.

    Examples:
        >>> import torch
        >>> table = ValueTable()
        >>> table.update(torch.tensor([1, 0]), torch.tensor([[0.5], [-0.5]]))
        >>> table.compute().tolist()
        [[-0.5], [0.5]]
    """

    def __init__(self) -> None:
        super().__init__({"rows": ("values",)})

    def update(self, index: Tensor, values: Tensor) -> None:
        """Adds M rows: index (M,) int64, values (M, b) float32."""
        self._append("rows", index, values)

    def compute(self) -> Tensor:
        """Returns the values of all rows."""
        (values,) = self._rows("rows")
        return values


class RetrievalMetric(_Tables):
    """Any function of (query codes, database codes, query labels, database labels) as a torchmetrics metric.

    Args:
        function: such as `mean_average_precision`.
        **options: passed to it at `compute`, such as ``k`` and ``ties``.

    Examples:
        >>> import torch
        >>> from brcd_lightning import mean_average_precision
        >>> metric = RetrievalMetric(mean_average_precision, k=1)
        >>> codes, labels = torch.tensor([[1, 1], [-1, -1]]), torch.tensor([0, 1])
        >>> metric.update("database", torch.arange(2), codes, labels)
        >>> metric.update("query", torch.arange(2), codes, labels)
        >>> metric.compute().item()
        1.0
    """

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        super().__init__(dict.fromkeys(SIDES, ("codes", "labels")))
        self._function, self._options = function, options

    def update(self, side: str, index: Tensor, codes: Tensor, labels: Tensor) -> None:
        """Adds M rows to one side.

        Args:
            side: ``query`` or ``database``.
            index: (M,) int64 position in that side's split.
            codes: (M, b) in {-1, +1}, or packed.
            labels: (M,) class indices, (M, C) multi-hot, or (M, R) lists of relevant ids, see `lists`.
        """
        require_choice("side", side, SIDES)
        self._append(side, index, codes, labels)

    def compute(self) -> Tensor:
        """The function's value on all rows of all ranks."""
        (queries, query_labels), (database, database_labels) = (self._rows(side) for side in SIDES)
        return self._function(queries, database, query_labels, database_labels, **self._options)


class AlignmentMetric(_Tables):
    """Any function of (student codes, teacher codes) or (student codes, teacher codes, labels) as a metric.

    Args:
        function: such as `individual_sample_distance` or `neighbor_relevance_accuracy`.
        with_labels: whether the function takes labels, and `update` with it.
        **options: passed to it at `compute`, such as ``k``.

    Examples:
        >>> import torch
        >>> from brcd_lightning import individual_sample_distance
        >>> metric = AlignmentMetric(individual_sample_distance)
        >>> metric.update(torch.arange(2), torch.tensor([[1, 1], [1, 1]]), torch.tensor([[1, 1], [-1, 1]]))
        >>> metric.compute().item()
        0.5
    """

    def __init__(self, function: Callable[..., Tensor], *, with_labels: bool = False, **options: Any) -> None:
        super().__init__({"pairs": ("student", "teacher", "labels") if with_labels else ("student", "teacher")})
        self._function, self._options = function, options

    def update(self, index: Tensor, *values: Tensor) -> None:
        """Adds M images: index (M,) int64, student codes (M, b), teacher codes (M, b), and labels if it takes them."""
        self._append("pairs", index, *values)

    def compute(self) -> Tensor:
        """The function's value on all images of all ranks."""
        return self._function(*self._rows("pairs"), **self._options)
