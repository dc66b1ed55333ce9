"""What one run is made of, built and checked once before anything trains, and the plan that says so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from brcd_lightning.checkpoints import read_architecture
from brcd_lightning.component_names import named
from brcd_lightning.config import build, labels
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.extras import Extras
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.stored import StoredDataModule
from brcd_lightning.data.transforms import ImageTransforms
from brcd_lightning.distillation.base import KDMethod
from brcd_lightning.errors import InputError
from brcd_lightning.files import sha256_of
from brcd_lightning.fingerprint import architecture, first_release_fingerprint, teacher_fingerprint
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.strategies import cluster, require_processes
from brcd_lightning.view_store import ViewStore


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

    view_store: ViewStore
    trainer: L.Trainer
    """An idle trainer with the configured devices and limits: what the machine refuses shows before training."""

    trainers: list[L.Trainer] = field(default_factory=list)
    """Those of the stages that have begun."""

    @property
    def teacher_path(self) -> Path:
        """The teacher's file: the given checkpoint, or its place in the store."""
        given = self.cfg.teacher.checkpoint
        if given is not None:
            return Path(given)
        return stored_teacher(self.cfg, self.teacher_id)

    def architecture(self, role: str) -> dict[str, Any]:
        """What checkpoints of this role must agree on."""
        return architecture(plain(self.cfg), role)

    def datamodule(self, stage: str, *, stored: bool = False) -> HashingDataModule:
        """Loaders of the ``teacher`` or ``student`` stage, of images or of rows of the view store."""
        parts = {
            "splits": self.splits,
            "transforms": self.transforms,
            "anchor_view": self.cfg.anchor_view,
            "seed": self.cfg[stage].seed,
            "extras": self.extras(stage),
        }
        if not stored:
            return build(self.cfg.data, **parts)
        options = OmegaConf.to_container(self.cfg.data, resolve=True)
        del options["_target_"]
        return StoredDataModule(amounts=self.view_store.amounts(parts["extras"]), **options, **parts)

    def extras(self, stage: str) -> Extras:
        """What the batches of a stage hold beside anchor and views: only distillation asks for more."""
        if stage == "teacher":
            return Extras()
        return Extras(self.kd_method.rotation_views, self.kd_method.num_positives)

    @cached_property
    def transforms(self) -> ImageTransforms:
        """Evaluation and view transform."""
        return build(self.cfg.transform)

    def stored_roles(self, stage: str) -> list[str]:
        """Networks whose features are read from the view store in the ``teacher`` or ``student`` stage.

        A student that is fully frozen brings the teacher along: by then its weights are fixed, however they were
        trained. A teacher takes the student along to decode and transform every image once for both.
        """
        networks = {"teacher": self.teacher, "student": self.student}
        if not self.view_store.serves(networks[stage].backbone, stage):
            return []
        if stage == "student":
            return ["teacher", "student"]
        both = self.cfg.stage != "teacher" and self.view_store.serves(self.student.backbone, "student")
        return ["teacher", "student"] if both else ["teacher"]

    def epochs(self, role: str) -> int:
        """Largest number of epochs of a stage: the trainer's own limit goes before the schedule's."""
        return self.cfg.trainer.get("max_epochs") or self.cfg[role].max_epochs

    def provenance(self) -> dict[str, Any]:
        """What a student should say of itself: its teacher, split, method and seed."""
        return {
            "teacher": self.teacher_id,
            "split": self.splits.fingerprint,
            "kd_method": self.labels["kd_method"],
            "method": self.config()["kd_method"],
            "uses_labels": self.kd_method.uses_labels,
            "seed": self.cfg.student.seed,
        }

    def config(self) -> dict[str, Any]:
        """The whole resolved configuration as plain Python values, components by their names: what files keep of it."""
        return named(plain(self.cfg))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as plain Python values, interpolations resolved."""
    return OmegaConf.to_container(cfg, resolve=True)


def stored_teacher(cfg: DictConfig, fingerprint: str) -> Path:
    """Where the teacher of a fingerprint lies in the store."""
    return Path(cfg.output_dir).resolve() / "teachers" / fingerprint / "teacher.safetensors"


def build_job(cfg: DictConfig) -> Job:
    """Builds data, networks and distillation method of a composed configuration.

    Raises:
        InputError: for whatever a part refuses.
    """
    _check_checkpoints(cfg)
    trainer = make_trainer(cfg, logger=False, enable_checkpointing=False)
    require_processes(trainer)
    hydra = HydraConfig.get()
    if trainer.world_size > 1 and hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] != "slurm":
        raise InputError(
            f"a multirun in one process trains each job on one device, got {trainer.world_size}; add "
            "hydra/launcher=local (or slurm), or set trainer.devices=1."
        )
    kd_method = build(cfg.kd_method)  # before the data, because it is cheap and its options are often swept
    splits = build(cfg.dataset)
    L.seed_everything(cfg.student.seed, workers=True, verbose=False)  # a method may have heads of its own
    steps_per_epoch = len(splits.train) // cfg.data.batch_size
    kd_method.setup(len(splits.train), cfg.bits, steps_per_epoch)
    view_store = build(cfg.view_store)
    teacher, student = (_build_network(cfg, role) for role in ("teacher", "student"))
    for network in (teacher, student):
        network.hashing_model.setup(steps_per_epoch)
    if trainer.world_size > 1 and not cfg.gather:
        _require_nothing_remembered({"kd_method": kd_method, "hashing_model": student.hashing_model})
    stored = view_store.views_description() if view_store.serves(teacher.backbone, "teacher") else None
    return Job(
        cfg=cfg,
        run_dir=Path(HydraConfig.get().runtime.output_dir).resolve(),
        labels=labels(cfg),
        splits=splits,
        kd_method=kd_method,
        teacher=teacher,
        student=student,
        teacher_id=_teacher_id(cfg, splits, stored),
        view_store=view_store,
        trainer=trainer,
    )


def _require_nothing_remembered(parts: Mapping[str, nn.Module]) -> None:
    """Raises `InputError` for a part with a memory, which would drift apart between processes."""
    for key, part in parts.items():
        remembered = part.state_dict().keys() - dict(part.named_parameters()).keys()
        if remembered:
            raise InputError(
                f"gather=false is not possible with {key} {type(part).__name__}: what it remembers "
                f"({', '.join(sorted(remembered))}) must be the same on all devices."
            )


def make_trainer(cfg: DictConfig, plugins: Sequence[Any] = (), **arguments: Any) -> L.Trainer:
    """Builds the configured trainer.

    Raises:
        InputError: for a device, precision or limit that Lightning or this machine refuses.
    """
    # The only accelerators we know to work: Apple's has no float64, which clusters and metrics need.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    accelerator = {"accelerator": device} if cfg.trainer.accelerator == "auto" else {}
    try:
        trainer = build(cfg.trainer, plugins=[*plugins, *cluster()], **accelerator, **arguments)
    except InputError:
        raise
    except (RuntimeError, ImportError, ValueError, TypeError, AssertionError, MisconfigurationException) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > (os.cpu_count() or 1):
        raise InputError(f"trainer.devices must be at most the {os.cpu_count()} CPUs, got {trainer.num_devices}.")
    return trainer


def _teacher_id(cfg: DictConfig, splits: Splits, stored_views: Mapping[str, Any] | None) -> str:
    given = cfg.teacher.checkpoint
    if given is None:
        parts = plain(cfg), splits.fingerprint, stored_views
        earlier = first_release_fingerprint(*parts)
        known = earlier is not None and stored_teacher(cfg, earlier).is_file()
        return earlier if known else teacher_fingerprint(*parts)
    about = read_architecture(given).get("about", {})
    return about.get("fingerprint") or sha256_of(given)[:16]


def _check_checkpoints(cfg: DictConfig) -> None:
    if cfg.stage == "test" and cfg.student.checkpoint is None:
        raise InputError("stage=test needs student.checkpoint=PATH, the student to evaluate.")
    if cfg.stage != "test" and cfg.student.checkpoint is not None:
        raise InputError(f"student.checkpoint is only for stage=test, got stage={cfg.stage}.")
    for role in ("teacher", "student"):
        path = cfg[role].checkpoint
        if path is not None and not Path(path).is_file():
            raise InputError(f"{role}.checkpoint {path} is not a file.")


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
    if cfg.compile:
        backbone.network.compile()
    model = build(cfg.hashing_model, in_features=backbone.num_features, bits=cfg.bits, head=options.head)
    return HashNetwork(backbone, model)


def plan(job: Job) -> str:
    """The resolved plan in a few lines: data, networks, distillation, steps, and where results go."""
    cfg, one = job.cfg, job.labels
    steps = job.datamodule("student").steps_per_epoch()
    limit = job.trainer.limit_train_batches
    steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    sizes = ", ".join(f"{role} {size}" for role, size in job.splits.sizes().items())
    lines = [
        f"Data: {one['dataset']}, {sizes}",
        _network_line(job, "teacher", job.teacher),
        _network_line(job, "student", job.student),
        f"Distillation: {one['kd_method']} on {one['hashing_model']}, {cfg.bits} bits, anchors {cfg.anchor_view}; "
        f"chosen by {cfg.paradigm.monitor} on validation queries (mAP@{cfg.map_k})",
        _features_line(job),
        f"Steps: {steps} per epoch of batch {cfg.data.batch_size}; teacher at most {job.epochs('teacher')} epochs "
        f"({_teacher_state(job)}), student at most {job.epochs('student')}",
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


def _features_line(job: Job) -> str:
    """Where each stage takes its features from."""
    views = job.view_store.views
    kinds = {stage: "stored" if job.stored_roles(stage) else "online" for stage in ("teacher", "student")}
    stored = f" (stored: {views} views of each training image, computed once)" if "stored" in kinds.values() else ""
    return f"Features: teacher {kinds['teacher']}, student {kinds['student']}{stored}"


def _teacher_state(job: Job) -> str:
    if job.cfg.teacher.checkpoint is not None:
        return f"given: {job.teacher_path}"
    return "stored already" if job.teacher_path.is_file() else "to be trained"
