"""Fingerprints: equal for what would train the same teacher, wherever and whenever it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from brcd_lightning.data import transforms
from brcd_lightning.files import sha256_of

_NOT_DATA = ("root", "download")
_NOT_TRAINING = ("accelerator", "strategy", "log_every_n_steps")


def digest(payload: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]


def architecture(cfg: DictConfig, role: str) -> dict[str, Any]:
    """What a checkpoint of the ``teacher`` or ``student`` must agree on to be loaded."""
    backbone = _plain(cfg[role].backbone)
    return {
        "bits": cfg.bits,
        "backbone": {key: value for key, value in backbone.items() if key not in ("weights", "freeze")},
        "hashing_model": cfg.hashing_model._target_,
        "head": cfg[role].head,
    }


def transform(cfg: DictConfig) -> dict[str, Any]:
    """What the pixels of evaluation images and views depend on, beside the images and seeds."""
    return _plain(cfg.transform) | {"version": transforms.VERSION}


def teacher_fingerprint(cfg: DictConfig, split_fingerprint: str, stored_views: Mapping[str, Any] | None = None) -> str:
    """Identifies a teacher by everything that shapes its weights.

    The data set counts by its split's content, weights by the file's content, the trainer without what only moves
    the work elsewhere. A teacher that trains on stored views sees those views only.

    Args:
        cfg: the whole configuration.
        split_fingerprint: of the data set.
        stored_views: what describes the views of the store, None when the teacher trains online.
    """
    teacher = {key: value for key, value in _plain(cfg.teacher).items() if key != "checkpoint"}
    weights = teacher["backbone"].get("weights")
    if weights and Path(weights).is_file():
        teacher["backbone"]["weights"] = sha256_of(weights)
    trainer = _plain(cfg.trainer)
    payload = {
        "split": split_fingerprint,
        "dataset": {key: value for key, value in _plain(cfg.dataset).items() if key not in _NOT_DATA},
        "transform": transform(cfg),
        "hashing_model": _plain(cfg.hashing_model),
        "bits": cfg.bits,
        "map_k": cfg.map_k,
        "batch_size": cfg.data.batch_size,
        "anchor_view": cfg.anchor_view,
        "teacher": teacher,
        "optimizer": _plain(cfg.optimizer),
        "stored_views": stored_views and dict(stored_views),
        "trainer": {
            key: value for key, value in trainer.items() if key not in _NOT_TRAINING and not key.startswith("enable_")
        },
    }
    return digest(payload)


def _plain(node: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(node, resolve=True)
