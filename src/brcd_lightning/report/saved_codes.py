"""Codes that a run saved: those of the test split, and the teacher's codes of the training images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from brcd_lightning.errors import InputError
from brcd_lightning.metrics.lists import check_label_kinds

_MOST_CLASSES = 10_000
"""Largest number of classes, unless there are more images than that: memberships have one column per class."""


class Side(NamedTuple):
    """Codes and labels of the queries or of the database."""

    packed: Tensor
    """(n, ceil(bits / 8)) uint8."""
    labels: Tensor
    """(n,) class indices or (n, C) multi-hot; without labels, lists (n, R) of relevant ids for queries and ids (n,) for
    the database."""

    def sample(self, count: int) -> Side:
        """Draws at most `count` rows with a fixed seed, because data sets may be ordered by class."""
        rows = drawn(len(self.packed), count)
        return Side(self.packed[rows], self.labels[rows])


class TensorFile(dict[str, Tensor]):
    """Tensors of a safetensors file by name.

    Args:
        path: the file.

    Raises:
        InputError: if the file cannot be read, or if a tensor is looked up that it does not have.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():  # reading a pipe would block
            raise InputError(f"{path} cannot be read: it is missing or not a file.")
        try:
            with safe_open(path, framework="pt") as file:
                super().__init__({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read: it is damaged or not a safetensors file.") from error

    def __missing__(self, name: str) -> Tensor:
        raise InputError(f"{self.path} has no {name}.")

    def side(self, encoder: str, name: str) -> Side:
        """Codes and labels of the queries or of the database.

        Args:
            encoder: ``student`` or ``teacher``.
            name: ``query`` or ``database``.

        Raises:
            InputError: if a tensor is missing or its shape or type is wrong.
        """
        packed, labels = self[f"{encoder}_{name}_packed"], self[f"{name}_labels"]
        shaped = packed.ndim == 2 and labels.ndim in (1, 2) and len(packed) == len(labels)
        if not shaped or not labels.numel() or not _is_integer(labels) or int(labels.min()) < 0:
            raise InputError(f"{self.path} has no codes and labels that belong together.")
        if packed.dtype != torch.uint8 or packed.shape[1:] != self[f"{encoder}_query_packed"].shape[1:]:
            raise InputError(f"{self.path} has no packed codes of one length.")
        self._require_one_kind_of_labels()
        return Side(packed, labels)

    def _require_one_kind_of_labels(self) -> None:
        """Raises `InputError` for labels that cannot be compared, or with too many classes to draw."""
        query, database = self["query_labels"], self["database_labels"]
        if not all(labels.ndim in (1, 2) and labels.numel() for labels in (query, database)):
            return  # rejected when that side is requested
        try:
            check_label_kinds(query, database)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        most = max(_MOST_CLASSES, len(query) + len(database))
        if query.ndim == database.ndim == 1 and (largest := max(int(query.max()), int(database.max()))) >= most:
            raise InputError(f"{self.path} has class indices up to {largest}, of fewer images; they cannot be drawn.")


def read_teacher_codes(path: Path) -> Mapping[str, Tensor]:
    """Reads the teacher's codes of the training images, with clusters and masks if the method computed them.

    Args:
        path: the file. It may be absent, which is not an error.

    Returns:
        ``codes`` (n, b) and other results of the method: ``assignments`` (n,) in [0, k), ``masks`` and ``expectations``
        (k, b), ``view_codes`` (m, b), ``view_index`` (m,) in [0, n). Empty without a file.

    Raises:
        InputError: if the file is damaged.
    """
    if not path.exists():
        return {}
    kept = TensorFile(path)
    if problem := _problem(kept):
        raise InputError(f"{path} has {problem}.")
    return kept


def _problem(kept: Mapping[str, Tensor]) -> str:
    """The first tensor that does not fit the others; empty if all fit."""
    if "codes" not in kept:
        return ""
    if kept["codes"].ndim != 2 or not kept["codes"].numel():
        return "no codes of shape (n, b)"
    bits = kept["codes"].shape[1]
    for name in ("expectations", "masks", "view_codes"):
        if name in kept and (kept[name].ndim != 2 or kept[name].shape[1] != bits):
            return f"{name} of other bits than its codes"
    if strange := [name for name, tensor in kept.items() if not bool(tensor.isfinite().all())]:
        return f"non-finite values in {', '.join(strange)}"
    tables = [kept[name] for name in ("expectations", "masks") if name in kept]
    if len({len(table) for table in tables}) > 1:
        return "expectations and masks of different numbers of clusters"
    return _index_problem(kept, len(tables[0]) if tables else None)


def _index_problem(kept: Mapping[str, Tensor], clusters: int | None) -> str:
    """The first tensor of indices that does not fit the codes or the number of clusters; empty if all fit."""
    images = len(kept["codes"])
    if "assignments" in kept and not _are_indices(kept["assignments"], images, clusters):
        return "assignments that do not belong to its codes and clusters"
    viewed = "view_codes" in kept and "view_index" in kept
    if viewed and not _are_indices(kept["view_index"], len(kept["view_codes"]), images):
        return "views that do not belong to its codes"
    return ""


def _are_indices(values: Tensor, length: int, limit: int | None) -> bool:
    """True if a tensor is (length,) integers in [0, limit)."""
    if values.shape != (length,) or not _is_integer(values):
        return False
    return not length or (int(values.min()) >= 0 and (limit is None or int(values.max()) < limit))


def _is_integer(values: Tensor) -> bool:
    return not values.is_floating_point() and not values.is_complex()


def drawn(length: int, count: int) -> Tensor:
    """Positions (min(count, length),) int64, ascending, the same for the same length."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(0))[:count].sort().values


def memberships(labels: Tensor) -> Tensor:
    """Labels as (n, C) of 0 and 1, whether they are class indices (n,) or multi-hot already."""
    return labels if labels.ndim == 2 else torch.nn.functional.one_hot(labels)
