"""The view store: features of frozen backbones, computed once and shared by all jobs with equal backbones and data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import nn

from brcd_lightning.backbones import Backbone
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.data.features.builder import TransformedSplits, fill
from brcd_lightning.data.features.inference import Inference
from brcd_lightning.data.features.layout import TURNS
from brcd_lightning.data.features.store import MANIFEST, Dtype, FeatureStore
from brcd_lightning.data.features.stored_backbone import StoredBackbone
from brcd_lightning.data.features.table import FeatureTable
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.workers import require_workers
from brcd_lightning.errors import InputError
from brcd_lightning.options import BatchSize, Positive, Seed, Text, Workers, checked

_Rows = Annotated[int, Interval(ge=1, le=1000)]  # per training image; more is certainly a mistake


@dataclass(frozen=True)
class Display:
    """Messages and progress for the user."""

    say: Callable[[str], None]
    """Prints one line."""
    progress: bool
    """Show a progress bar."""


class ViewStore:
    """Decides which backbones read stored features, builds missing features, and opens the stores.

    Args:
        mode: ``auto`` stores the features of fully frozen backbones and trains all others online; ``on`` raises for
            backbones that train online; ``off`` passes every view through the backbones in every epoch.
        views: augmented views stored per training image.
        rotations: number of these views that are stored in all four rotations, for methods that need rotations.
        positives: class positives stored per training image, for methods that need them.
        dtype: ``float16`` or ``float32``.
        max_gb: largest size of `folder` in GB.
        num_workers: processes that decode and transform while building; one per processor, at most 16, when None.
            Reading uses no workers.
        eval_batch_size: rows per evaluation batch and device with stored features, in place of
            ``data.eval_batch_size``, which counts images.
        seed: of the views, not of a run, so that all runs share them.
        folder: folder of all stores.
    """

    @checked("view_store")
    def __init__(
        self,
        mode: Literal["auto", "on", "off"] = "auto",
        views: _Rows = 16,
        rotations: _Rows = 4,
        positives: _Rows = 8,
        dtype: Dtype = "float16",
        max_gb: Positive = 50.0,
        num_workers: Workers | None = None,
        eval_batch_size: BatchSize = 4096,
        seed: Seed = 0,
        folder: Text = "outputs/features",
    ) -> None:
        if num_workers is not None:
            require_workers("view_store.num_workers", num_workers)
        self.mode, self.views, self.dtype, self.max_gb, self.seed = mode, views, dtype, max_gb, seed
        self.eval_batch_size = eval_batch_size
        self.rotations, self.positives = min(rotations, views), positives
        self.num_workers = min(os.cpu_count() or 1, 16) if num_workers is None else num_workers
        self.folder = Path(folder).resolve()
        self._tables: dict[tuple[object, ...], FeatureTable] = {}
        self.manifests: dict[str, Path] = {}
        """Manifests of the stores in use, by role."""

    def views_description(self) -> dict[str, Any]:
        """Describes the views of a training run."""
        return {"views": self.views, "seed": self.seed, "dtype": self.dtype}

    def amounts(self, extras: Extras) -> dict[str, int]:
        """Number of rows per training image that a stage reads, by kind."""
        amounts = {"views": self.views} if extras.views or extras.rotations != "none" else {}
        if extras.rotations != "none":
            amounts["rotations"] = TURNS * self.rotations
        if extras.positives:
            if extras.positives > self.positives:
                raise InputError(
                    f"view_store.positives must be at least the {extras.positives} that the distillation method shows "
                    f"at once, got {self.positives}."
                )
            amounts["positives"] = self.positives
        return amounts

    def serves(self, backbone: Backbone, role: str) -> bool:
        """Returns True if a network reads stored features during training.

        Raises:
            InputError: for mode ``on`` and a backbone that is not fully frozen.
        """
        frozen = backbone.freeze == "full"
        if self.mode == "on" and not frozen:
            raise InputError(
                f"view_store.mode=on needs {role}.backbone.freeze=full, got {backbone.freeze}: features that change "
                "while training cannot be stored."
            )
        return frozen and self.mode != "off"

    def open(
        self,
        backbones: Mapping[str, Backbone],
        about: Mapping[str, Any],
        images: TransformedSplits,
        *,
        amounts: Mapping[str, int],
        inference: Inference,
        display: Display,
    ) -> dict[str, StoredBackbone]:
        """Builds missing features and opens the features of each backbone.

        Args:
            backbones: backbones by role.
            about: plain descriptions of the backbone of each role and of the ``transform``, which determine the
                features together with weights and data.
            images: data set and transforms.
            amounts: rows per training image, by kind, see `amounts`; empty for evaluation only.
            inference: device and precision of the backbones.
            display: reports to the user.

        Returns:
            By role, the replacement of the backbone in a network whose batches hold rows.

        Raises:
            InputError: if the folder would exceed `max_gb`, or a store is damaged.
        """
        online = {role: backbone.online for role, backbone in backbones.items()}
        stores = self._stores(online, about, images.splits, inference)
        lacking = {role: store for role, store in stores.items() if store.missing(amounts)}
        if lacking:
            self._announce(lacking, amounts, display.say)
        seconds = fill(
            [(stores[role], backbone.to(inference.device).eval()) for role, backbone in online.items()],
            images.for_device(inference.device),
            amounts=amounts,
            seed=self.seed,
            num_workers=self.num_workers,
            forward=partial(inference.features, images.transforms),
            progress=display.progress,
        )
        if lacking:
            display.say(f"View store: ready after {seconds:.0f} s in {self.folder}")
        self.manifests |= {role: store.folder / MANIFEST for role, store in stores.items()}
        return {role: StoredBackbone(online[role], self._table(store, amounts)) for role, store in stores.items()}

    def _stores(
        self, backbones: Mapping[str, Backbone], about: Mapping[str, Any], splits: Splits, inference: Inference
    ) -> dict[str, FeatureStore]:
        """The stores by role, each named by a digest of everything that determines its features."""
        used = splits.used.tolist()
        order = hashlib.sha256("\n".join(splits.source.ids[position] for position in used).encode()).hexdigest()
        return {
            role: FeatureStore(
                self.folder,
                {
                    "network": about[role],
                    "weights": state_digest(backbone),
                    "split": splits.fingerprint,
                    "order": order,  # evaluation features lie in the order of the source
                    "transform": about["transform"],
                    "precision": inference.numerics,
                    "seed": self.seed,
                },
                images=len(used),
                train=len(splits.train),
                num_features=backbone.num_features,
                dtype=self.dtype,
            )
            for role, backbone in backbones.items()
        }

    def _table(self, store: FeatureStore, amounts: Mapping[str, int]) -> FeatureTable:
        """The features of a store, checked and opened once."""
        key = (store.fingerprint, *amounts.items())
        if key not in self._tables:
            self._tables[key] = store.open(amounts)
        return self._tables[key]

    def _announce(
        self, stores: Mapping[str, FeatureStore], amounts: Mapping[str, int], say: Callable[[str], None]
    ) -> None:
        """Prints the amount and size of the features to compute; raises `InputError` if they would exceed `max_gb`."""
        needed = {store.fingerprint: store.bytes_of(store.missing(amounts)) for store in stores.values()}
        present = _bytes_in(self.folder, {str(store.folder) for store in stores.values()})
        total = (sum(needed.values()) + present) / 1e9
        if total > self.max_gb:
            raise InputError(
                f"the view store would take {total:.1f} GB in {self.folder}, more than view_store.max_gb="
                f"{self.max_gb}; raise it, lower view_store.views, remove old stores with `make clean-cache`, or set "
                "view_store.mode=off."
            )
        rows = max(sum(part.items * part.rows for part in store.missing(amounts)) for store in stores.values())
        say(
            f"View store: {rows:,} images and views through the backbone of {' and '.join(stores)}, once; "
            f"{sum(needed.values()) / 1e9:.2f} GB in {self.folder}"
        )


def _bytes_in(folder: Path, own: Collection[str]) -> int:
    """Bytes of all stores; unfinished parts of the `own` stores are excluded, since the needed size includes them."""
    total = 0
    for parent, _, files in os.walk(folder):
        passing = (".building", ".tmp", ".json") if parent in own else (".tmp", ".json")
        for name in files:
            if not name.endswith(passing):
                with suppress(FileNotFoundError):
                    total += os.stat(os.path.join(parent, name)).st_size
    return total


def state_digest(module: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
