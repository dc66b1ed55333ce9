"""The manifest of a data set: the images of each split, with counts for verification."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from brcd_lightning.data.splits import SPLITS, Splits
from brcd_lightning.data.splitting import has_label
from brcd_lightning.storage.atomic import write_text


def manifest(splits: Splits) -> dict[str, Any]:
    """Splits as plain data: fingerprint, counts, ordered names of each split, and hashes of the labels."""
    names, labels = splits.source.ids, splits.source.labels
    classes = 0
    if splits.has_labels:
        classes = int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1]
    return {
        "fingerprint": splits.fingerprint,
        "sizes": splits.sizes(),
        "train_in_database": int(torch.isin(splits.train, splits.database).sum()),
        "without_label": {role: _without_label(splits, role) for role in SPLITS},
        "classes": classes,
        "labels_sha256": {role: _digest(splits, role) for role in SPLITS if splits.has_labels},
        "skipped": dict(splits.skipped),
        "queries_in_database": splits.repeated_queries,
        # The validation database is the database without the validation queries.
        "names": {
            role: [names[p] for p in splits.positions(role).tolist()] for role in SPLITS if role != "val_database"
        },
    }


def _without_label(splits: Splits, role: str) -> int:
    labels = splits.labels(role)
    return int((~has_label(labels)).sum()) if splits.has_labels else len(labels)


def _digest(splits: Splits, role: str) -> str:
    return hashlib.sha256(splits.labels(role).numpy().astype("<i8").tobytes()).hexdigest()


def write_manifest(folder: Path, splits: Splits) -> Path:
    """Writes the manifest of splits, named by their fingerprint, unless it exists; returns its path."""
    path = folder / f"{splits.fingerprint[:16]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(manifest(splits), indent=1) + "\n")
    return path
