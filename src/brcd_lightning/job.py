"""What one run is made of, built and checked once before anything trains, and the plan that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from brcd_lightning.config import build, labels
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.splits import Splits
from brcd_lightning.distillation.base import KDMethod
from brcd_lightning.errors import InputError
from brcd_lightning.files import sha256_of
from brcd_lightning.fingerprint import architecture, teacher_fingerprint
from brcd_lightning.hashing.base import HashNetwork


@dataclass(frozen=True)
class Job:
    """The parts of one run."""

    cfg: DictConfig
    run_dir: Path
    labels: Mapping[str, str]
    splits: Splits
    kd_method: KDMethod
    teacher: HashNetwork
    student: HashNetwork
    teacher_id: str
    """Fingerprint of the teacher: of its configuration, or of the file when one is given."""

    @property
    def teacher_path(self) -> Path:
        """The teacher's file: the given checkpoint, or its place in the store."""
        given = self.cfg.teacher.checkpoint
        if given is not None:
            return Path(given)
        return Path(self.cfg.output_dir).resolve() / "teachers" / self.teacher_id / "teacher.safetensors"

    def architecture(self, role: str) -> dict[str, Any]:
        """What checkpoints of this role must agree on."""
        return architecture(self.cfg, role)

    def datamodule(self, seed: int) -> HashingDataModule:
        """Loaders of one stage."""
        return build(
            self.cfg.data,
            splits=self.splits,
            transforms=build(self.cfg.transform),
            anchor_view=self.cfg.anchor_view,
            seed=seed,
        )

    def config(self) -> dict[str, Any]:
        """The whole resolved configuration as plain Python values."""
        return OmegaConf.to_container(self.cfg, resolve=True)


def build_job(cfg: DictConfig) -> Job:
    """Builds data, networks and distillation method of a composed configuration.

    Raises:
        InputError: for whatever a part refuses.
    """
    _check_checkpoints(cfg)
    kd_method = build(cfg.kd_method)  # before the data, because it is cheap and its options are often swept
    splits = build(cfg.dataset)
    given = cfg.teacher.checkpoint
    return Job(
        cfg=cfg,
        run_dir=Path(HydraConfig.get().runtime.output_dir).resolve(),
        labels=labels(cfg),
        splits=splits,
        kd_method=kd_method,
        teacher=_build_network(cfg, "teacher"),
        student=_build_network(cfg, "student"),
        teacher_id=sha256_of(given)[:16] if given is not None else teacher_fingerprint(cfg, splits.fingerprint()),
    )


def _check_checkpoints(cfg: DictConfig) -> None:
    if cfg.stage == "test" and cfg.student.checkpoint is None:
        raise InputError("stage=test needs student.checkpoint=PATH, the student to evaluate.")
    if cfg.stage != "test" and cfg.student.checkpoint is not None:
        raise InputError(f"student.checkpoint is only for stage=test, got stage={cfg.stage}.")
    for role in ("teacher", "student"):
        path = cfg[role].checkpoint
        if path is not None and not Path(path).is_file():
            raise InputError(f"{role}.checkpoint {path} does not exist.")


def _build_network(cfg: DictConfig, role: str) -> HashNetwork:
    options = cfg[role]
    L.seed_everything(options.seed, workers=True, verbose=False)
    # A checkpoint brings the backbone's weights along: nothing to fetch.
    ready = options.checkpoint is not None and "weights" in options.backbone
    backbone = build(options.backbone, **({"weights": None} if ready else {}))
    if backbone.image_size not in (None, cfg.transform.size):
        raise InputError(
            f"{role}.backbone takes images of {backbone.image_size} pixels, got transform.size={cfg.transform.size}."
        )
    model = build(cfg.hashing_model, in_features=backbone.num_features, bits=cfg.bits, head=options.head)
    return HashNetwork(backbone, model)


def plan(job: Job) -> str:
    """The resolved plan in a few lines: data, networks, distillation, steps, and where results go."""
    cfg, one = job.cfg, job.labels
    sizes = ", ".join(f"{role} {size}" for role, size in job.splits.sizes().items())
    lines = [
        f"Data: {one['dataset']}, {sizes}",
        _network_line(job, "teacher", job.teacher),
        _network_line(job, "student", job.student),
        f"Distillation: {one['kd_method']} on {one['hashing_model']}, {cfg.bits} bits, anchors {cfg.anchor_view}; "
        f"chosen by {cfg.paradigm.monitor} on validation queries (mAP@{cfg.map_k})",
        f"Steps: {job.datamodule(cfg.seed).steps_per_epoch()} per epoch of batch {cfg.data.batch_size}; "
        f"teacher at most {cfg.teacher.max_epochs} epochs ({_teacher_state(job)}), "
        f"student at most {cfg.student.max_epochs}",
        f"Results go to {job.run_dir}",
    ]
    if job.splits.skipped:
        lines.insert(1, f"Skipping {len(job.splits.skipped)} unreadable images, listed in skipped_images.csv")
    return "\n".join(lines)


def _network_line(job: Job, role: str, network: HashNetwork) -> str:
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    head = job.cfg[role].head
    return f"{role.capitalize()}: {job.labels[role]}, {head} head, {total:,} parameters, {trained:,} trained"


def _teacher_state(job: Job) -> str:
    if job.cfg.teacher.checkpoint is not None:
        return f"given: {job.teacher_path}"
    return "stored already" if job.teacher_path.is_file() else "to be trained"
