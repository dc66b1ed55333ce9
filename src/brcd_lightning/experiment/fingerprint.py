"""Fingerprints, which are equal for configurations that train the same teacher at any place and time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brcd_lightning.config import hashing_model_of
from brcd_lightning.data import transforms
from brcd_lightning.results.identity import teacher_options
from brcd_lightning.storage.atomic import sha256_of
from brcd_lightning.storage.component_names import component_name, named_architecture

_WEIGHTS = "teacher.backbone.weights"


def digest(payload: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]


def architecture(config: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Description that a checkpoint of the ``teacher`` or ``student`` must match to be loaded.

    Args:
        config: the whole resolved configuration, plain.
        role: ``teacher`` or ``student``.
    """
    return named_architecture(
        {
            "bits": config["bits"],
            "backbone": _backbone(config, role),
            "hashing_model": hashing_model_of(config, role)["_target_"],
            "head": config[role]["head"],
        }
    )


def stored_network(config: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Description of a network that, with its weights, determines its stored features.

    It identifies feature stores on disk, which may hold hours of work. It therefore keeps the format of release 0.1.0,
    including import paths that have changed since.
    """
    backbone = _backbone(config, role)
    name = component_name("backbone", backbone["_target_"])
    return _as_in_first_release(backbone) | {"_target_": f"brcd_lightning.backbones.{name}_backbone"}


def transform(config: Mapping[str, Any]) -> dict[str, Any]:
    """Description that, with images and seeds, determines evaluation images and views; see `stored_network`."""
    name = component_name("transform", config["transform"]["_target_"])
    return dict(config["transform"]) | {
        "_target_": f"brcd_lightning.data.transforms.{name}",
        "version": transforms.VERSION,
    }


def teacher_fingerprint(
    config: Mapping[str, Any], split_fingerprint: str, stored_views: Mapping[str, Any] | None = None
) -> str:
    """Identifies a teacher by everything that affects its weights.

    The data set is identified by the content of its split, and weights by the content of their file. A teacher that
    trains on stored views sees only those views.

    Args:
        config: the whole resolved configuration, plain.
        split_fingerprint: fingerprint of the data set's split.
        stored_views: description of the stored views; None if the teacher trains online.
    """
    options = teacher_options(config)
    options[_WEIGHTS] = _content(options.get(_WEIGHTS))
    return digest(
        {
            "options": options,
            "split": split_fingerprint,
            "stored_views": stored_views and dict(stored_views),
            "transform": transforms.VERSION,
        }
    )


def first_release_fingerprint(
    config: Mapping[str, Any], split_fingerprint: str, stored_views: Mapping[str, Any] | None = None
) -> str | None:
    """The fingerprint of a teacher in release 0.1.0, so that stored teachers are found and not trained again.

    Returns:
        The fingerprint; None for options that release 0.1.0 ignored, because its fingerprint would be ambiguous.
    """
    if config["compile"] or not config["gather_distributed"] or config["collapse_monitor"].get("stop"):
        return None
    teacher = {key: value for key, value in config["teacher"].items() if key not in ("checkpoint", "hashing_model")}
    teacher["backbone"] = _as_in_first_release(teacher["backbone"])
    if "weights" in teacher["backbone"]:
        teacher["backbone"]["weights"] = _content(teacher["backbone"]["weights"])
    passing = ("accelerator", "strategy", "log_every_n_steps")
    payload = {
        "split": split_fingerprint,
        "dataset": {key: value for key, value in config["dataset"].items() if key not in ("root", "download")},
        "transform": transform(config),
        "hashing_model": hashing_model_of(config, "teacher"),
        "bits": config["bits"],
        "map_k": config["map_k"],
        "batch_size": config["data"]["batch_size"],
        "anchor_view": config["anchor_view"],
        "teacher": teacher,
        "optimizer": config["optimizer"],
        "stored_views": stored_views and dict(stored_views),
        "trainer": {
            key: value
            for key, value in config["trainer"].items()
            if key not in passing and not key.startswith("enable_")
        },
    }
    return digest(payload)


def _backbone(config: Mapping[str, Any], role: str) -> dict[str, Any]:
    return {key: value for key, value in config[role]["backbone"].items() if key not in ("weights", "freeze")}


def _as_in_first_release(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a backbone by their names in release 0.1.0."""
    return {"tap" if key == "feature_layer" else key: value for key, value in backbone.items()}


def _content(weights: str | None) -> str | None:
    """The digest of a weight file; the name of weights that come from a library."""
    return sha256_of(weights) if weights and Path(weights).is_file() else weights
