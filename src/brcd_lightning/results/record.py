"""``results.json``: everything a table row needs, and its schema."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from brcd_lightning.codes import pack
from brcd_lightning.data.names import OWN_NAMES, dataset_name
from brcd_lightning.data.splits import BY_LABELS
from brcd_lightning.errors import InputError
from brcd_lightning.results.run_files import DONE, RESULTS
from brcd_lightning.storage.atomic import atomic_path, write_text
from brcd_lightning.storage.component_names import TYPE, named
from brcd_lightning.storage.json_files import read_json

SCHEMA_VERSION = 3
_READ = (2, SCHEMA_VERSION)  # 2: release 0.1.0, with import paths in place of names
_PACKAGES = ("brcd_lightning", "torch", "torchvision", "lightning", "timm", "faiss-cpu", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Outcome:
    """Measurements of a run.

    Args:
        metrics: test metrics by name.
        intervals: 95 % bootstrap intervals over queries, by metric name.
        validation: best value of the watched metric on validation queries, by which options are chosen.
        epochs: student epochs run.
        timings: seconds per stage.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    validation: float | None
    epochs: int
    timings: Mapping[str, float]


@dataclass(frozen=True)
class Subject:
    """The run that was measured.

    Args:
        coordinates: coordinates of the run in the grid, see `config.grid_coordinates`.
        method: options of the distillation method that made the student.
        uses_labels: whether that method saw labels of training images.
        seed: seed of the student.
        config: the whole resolved configuration; components are stored by their names.
        sizes: images per role.
        fingerprints: fingerprints of split and teacher.
        transductive: whether that method saw unlabelled database images that are not training images.
        relevance: definition of the relevant items of a query, in words, see `Splits.relevance`.
        classes: names of the classes, see `ImageSource`.
        commit: source commit when the run started, see `storage.atomic.source_commit`.
    """

    coordinates: Mapping[str, str]
    method: Mapping[str, Any]
    uses_labels: bool
    seed: int
    config: Mapping[str, Any]
    sizes: Mapping[str, int]
    fingerprints: Mapping[str, str]
    transductive: bool = False
    relevance: str = BY_LABELS
    classes: Sequence[str] = ()
    commit: str | None = None


def make_results(outcome: Outcome, subject: Subject) -> dict[str, Any]:
    """The record of one run, as ``results.json`` holds it."""
    config = subject.config
    return {
        "schema_version": SCHEMA_VERSION,
        "metrics": dict(outcome.metrics),
        "intervals": {name: list(ends) for name, ends in outcome.intervals.items()},
        "metric_protocol": {
            "k": config["map_k"],
            "relevance": subject.relevance,
            "denominator": "relevant items in the top K",
            "ties": "database order after one seeded permutation; *_expected: exact mean over all orders of ties",
            "float_queries": "*_float, *_rescored: no Hamming scores; items are ranked by <v(q), c(x)>, soft values of "
            "the query against stored codes; *_float: whole database; *_rescored: best 10 K of a Hamming search",
            "features": "*_features, *_pq, *_opq: no codes; items are ranked by cosine of a backbone's real features, "
            "in *_pq and *_opq with those of the database quantised to the bits of a code",
            "intervals": "95 %, quantile bootstrap over queries, 2000 resamples",
            "queries_without_hit": "count as 0; *_zero_hit_rate: their share",
        },
        "row": {**subject.coordinates, "bits": config["bits"], "seed": subject.seed},
        "method": {key: value for key, value in subject.method.items() if key != TYPE},
        "uses_labels": subject.uses_labels,
        "transductive": subject.transductive,
        "validation": outcome.validation,
        "epochs": outcome.epochs,
        "sizes": dict(subject.sizes),
        "classes": list(subject.classes),
        "timings": {name: round(seconds, 3) for name, seconds in outcome.timings.items()},
        "fingerprints": dict(subject.fingerprints),
        "commit": subject.commit,
        "versions": _versions(),
        "device": _device(),
        "config": named(config),
    }


def _versions() -> dict[str, str]:
    packages = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"python": platform.python_version()} | packages


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def write_results(run_dir: Path, results: Mapping[str, Any]) -> None:
    """Writes ``results.json`` atomically."""
    write_text(run_dir / RESULTS, json.dumps(results, indent=2, sort_keys=True) + "\n")


def read_results(run_dir: Path) -> dict[str, Any]:
    """Reads ``results.json`` of a run.

    Raises:
        InputError: if it is missing, damaged or of another schema.
    """
    path = run_dir / RESULTS
    results = read_json(path)
    if not isinstance(results, dict) or results.get("schema_version") not in _READ:
        raise InputError(f"{path} is not a results file of schema {' or '.join(map(str, _READ))}.")
    return _current(results)


def _current(results: dict[str, Any]) -> dict[str, Any]:
    """A record with current names, even if an earlier version wrote it."""
    found = {"transductive": False, "classes": []} | results
    if isinstance(results.get("metric_protocol"), dict):
        found["metric_protocol"] = {"relevance": BY_LABELS} | results["metric_protocol"]
    for part, prefix in (("config", ""), ("method", "kd_method")):
        if isinstance(results.get(part), dict):
            found[part] = named(results[part], prefix)
    for part in ("metrics", "intervals"):
        if isinstance(results.get(part), dict):
            found[part] = {re.sub("_zero_hits$", "_zero_hit_rate", name): each for name, each in results[part].items()}
    row, config = results.get("row"), results.get("config")
    options = config.get("dataset") if isinstance(config, dict) else None
    if isinstance(row, dict) and isinstance(options, dict) and row.get("dataset") in OWN_NAMES:
        found["row"] = row | {"dataset": dataset_name(row["dataset"], options)}
    return found


def method_name(results: Mapping[str, Any], *more: str) -> str:
    """Name of a student in tables: its method, the head that it started from, and the images that it trained on.

    Args:
        results: record of the run.
        *more: words that distinguish students of the same method.
    """
    method, student = results["row"]["kd_method"], results["config"].get("student", {})
    name = {"none": "NO KD"}.get(method, method.upper().replace("_WO_", " w/o ").replace("_", " "))
    start = student.get("init", "random")
    parts = [*more, *([f"from {start}"] if start != "random" else [])]
    parts += ["on database images"] if results.get("transductive") else []
    return f"{name} ({', '.join(parts)})" if parts else name


LABELS, TRANSDUCTIVE = "*", "†"
"""Marks of methods in tables."""


def marks(results: Mapping[str, Any]) -> str:
    """Marks behind the name of a run's method in tables; empty for one that saw only training images without labels."""
    told = {LABELS: results.get("uses_labels"), TRANSDUCTIVE: results.get("transductive")}
    return "".join(f" {mark}" for mark, holds in told.items() if holds)


def notes(several: Iterable[Mapping[str, Any]]) -> list[str]:
    """Explains the marks of some runs, and the definition of relevance in data sets without labels."""
    several = list(several)
    return mark_notes(several) + relevance_notes(several)


def mark_notes(several: Iterable[Mapping[str, Any]]) -> list[str]:
    """Explains the marks of some runs."""
    found = "".join(marks(results) for results in several)
    told = {
        LABELS: "uses labels of the training images",
        TRANSDUCTIVE: "trained on database images, without labels",
    }
    return [f"{mark} {text}" for mark, text in told.items() if mark in found]


def has_labels(results: Mapping[str, Any]) -> bool:
    """True if labels define relevance for the queries of a run."""
    return bool(results["metric_protocol"].get("relevance", BY_LABELS) == BY_LABELS)


def relevance_notes(several: Iterable[Mapping[str, Any]]) -> list[str]:
    """Sentences that define relevance in data sets without labels, whose mAP is not comparable with that of labels."""
    told = {
        f"{results['row']['dataset']}: no labels, relevant items are {results['metric_protocol']['relevance']}": None
        for results in several
        if not has_labels(results)
    }
    return list(told)


def tested_metric(monitor: str) -> str:
    """The test metric of a validation metric that chooses the epoch."""
    return monitor.replace("val/", "test/")


def recorded_metric(run_dir: Path, monitor: str) -> float | None:
    """Test metric of a finished run that belongs to `monitor`; None if nothing was tested (a single stage)."""
    if not (run_dir / RESULTS).exists():
        return None
    metrics, name = read_results(run_dir).get("metrics"), tested_metric(monitor)
    if not isinstance(metrics, dict) or not isinstance(metrics.get(name), int | float):
        raise InputError(f"{run_dir / RESULTS} has no {name}; remove {DONE} beside it to test the run again.")
    return float(metrics[name])


def save_codes(path: Path, codes: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Writes packed codes and labels of both sides, for later figures and for building an index."""
    tensors = {}
    for name, (rows, labels) in codes.items():
        tensors[f"{name}_packed"] = pack(rows)
        tensors[f"{name.rpartition('_')[2]}_labels"] = labels.contiguous()
    bits = {str(rows.shape[1]) for rows, _ in codes.values()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"bits": bits.pop()})
