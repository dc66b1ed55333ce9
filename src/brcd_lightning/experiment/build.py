"""Builds the components of a run, and rejects invalid combinations before anything trains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch import nn

from brcd_lightning.config import CONFIG_DIR, RANDOM, build, grid_coordinates, hashing_model_of, load_options, plain
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.features.datamodule import StoredDataModule
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.workers import require_workers
from brcd_lightning.distillation.base import ClosedFormMethod, KDMethod
from brcd_lightning.errors import InputError
from brcd_lightning.experiment.context import RunContext, stored_teacher
from brcd_lightning.experiment.fingerprint import first_release_fingerprint, teacher_fingerprint
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.search.features import require_bytes
from brcd_lightning.storage.atomic import sha256_of, source_commit
from brcd_lightning.storage.checkpoints import read_architecture
from brcd_lightning.training.closed_form_fit import require_linear
from brcd_lightning.training.losses import remembered, require_compiler


def build_context(cfg: DictConfig, world_size: int = 1) -> RunContext:
    """Builds data, networks and distillation method of a composed configuration.

    Args:
        cfg: the configuration.
        world_size: number of processes that train together.

    Raises:
        InputError: for any value that a component rejects.
    """
    _check_checkpoints(cfg)
    _check_processes(world_size)
    kd_method = build(cfg.kd_method)  # before the data, because it is cheap and its options are often swept
    warm_start = _build_warm_start(cfg, kd_method)
    _check_machine(cfg)
    view_store, transforms = build(cfg.view_store), build(cfg.transform)
    splits: Splits = build(cfg.dataset)
    _check_splits(cfg, kd_method, splits)
    whole = cfg.student.train_on == "database"
    trained_on = {"teacher": splits, "student": splits.trained_on_database() if whole else splits}
    steps = {role: len(its.train) // cfg.data.batch_size for role, its in trained_on.items()}
    L.seed_everything(cfg.student.seed, workers=True, verbose=False)  # a method may have heads of its own
    kd_method.setup(len(trained_on["student"].train), cfg.bits, steps["student"])
    teacher, student = (_build_network(cfg, role) for role in ("teacher", "student"))
    for role, network in (("teacher", teacher), ("student", student)):
        network.hashing_model.setup(steps[role])
    if world_size > 1 and not cfg.gather_distributed:
        _require_nothing_remembered({"kd_method": kd_method, "hashing_model": student.hashing_model})
    stored_views = view_store.views_description() if view_store.serves(teacher.backbone, "teacher") else None
    teacher_id, given_teacher = _teacher_id(cfg, splits, stored_views)
    context = RunContext(
        cfg=cfg,
        config=plain(cfg),
        run_dir=Path(HydraConfig.get().runtime.output_dir).resolve(),
        coordinates=grid_coordinates(cfg),
        splits=splits,
        trained_on=trained_on,
        transforms=transforms,
        kd_method=kd_method,
        warm_start=warm_start,
        teacher=teacher,
        student=student,
        teacher_id=teacher_id,
        view_store=view_store,
        given_teacher=given_teacher,
        commit=source_commit(),
    )
    _check_closed_forms(context)
    return context


def build_datamodule(context: RunContext, stage: str, *, stored: bool = False) -> HashingDataModule:
    """Loaders of the ``teacher`` or ``student`` stage.

    Args:
        context: context of the run.
        stage: ``teacher`` or ``student``.
        stored: whether batches hold rows of the view store instead of images.
    """
    parts = {
        "splits": context.trained_on[stage],
        "transforms": context.transforms,
        "anchor_view": context.cfg.anchor_view,
        "seed": context.cfg[stage].seed,
        "extras": context.extras(stage),
    }
    online: HashingDataModule = build(context.cfg.data, **parts)
    if not stored:
        return online
    store = context.view_store
    return StoredDataModule(online, store.amounts(online.extras), store.eval_batch_size)


def _check_checkpoints(cfg: DictConfig) -> None:
    if cfg.stage == "test" and cfg.student.checkpoint is None:
        raise InputError("stage=test needs student.checkpoint=PATH, the student to evaluate.")
    if cfg.stage != "test" and cfg.student.checkpoint is not None:
        raise InputError(f"student.checkpoint is only for stage=test, got stage={cfg.stage}.")
    for role in ("teacher", "student"):
        path = cfg[role].checkpoint
        if path is not None and not Path(path).is_file():
            raise InputError(f"{role}.checkpoint {path} is not a file.")


def _check_machine(cfg: DictConfig) -> None:
    """Raises `InputError` for options that this machine does not support."""
    require_workers("data.num_workers", cfg.data.get("num_workers", 0))
    if cfg.compile == "step":
        require_compiler()


def _check_processes(world_size: int) -> None:
    """Rejects data-parallel jobs that share one process, since all would use the process group of the first job."""
    hydra = HydraConfig.get()
    if world_size > 1 and hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] != "slurm":
        raise InputError(
            f"a multirun in one process trains each job on one device, got {world_size}; add hydra/launcher=local "
            "(or slurm), or set trainer.devices=1."
        )


def _check_closed_forms(context: RunContext) -> None:
    """Rejects a closed-form fit of a network whose features change or whose head is not linear."""
    cfg = context.cfg
    to_come = {"teacher": cfg.teacher.checkpoint is None, "student": cfg.stage in ("all", "student")}
    for role, network in context.networks.items():
        if context.trains(role) or not to_come[role]:
            continue
        for option, needed, found in (
            ("backbone.freeze", "full", network.backbone.freeze),
            ("head", "linear", cfg[role].head),
        ):
            if found != needed:
                raise InputError(
                    f"{role}.{option} must be {needed} where the head is fitted without training, got {found}; set "
                    f"{role}.{option}={needed}, or choose a hashing_model and a kd_method that train."
                )
        if role == "student" and context.kd_method.solves:
            require_linear(network.hashing_model)
    if context.warm_start is not None and to_come["student"]:
        require_linear(context.student.hashing_model)


def _build_warm_start(cfg: DictConfig, kd_method: KDMethod) -> ClosedFormMethod | None:
    """The method that solves for the student's initial head; None for a random head.

    Raises:
        InputError: for options of the student that exclude each other.
    """
    student = cfg.student
    if kd_method.uses_labels and student.train_on == "database":
        raise InputError(
            f"student.train_on=database uses no labels of the database, which kd_method {type(kd_method).__name__} "
            "asks for; set student.train_on=train, or another kd_method."
        )
    if not kd_method.needs and student.hashing_weight == 0:
        raise InputError("student.hashing_weight must be above 0 for a kd_method without a loss, got 0.")
    if kd_method.solves and (student.init != RANDOM or student.hashing_weight != 1):
        raise InputError(
            f"kd_method {type(kd_method).__name__} solves for the head and trains nothing; leave student.init and "
            "student.hashing_weight as they are."
        )
    if student.init == RANDOM:
        if student.init_options:
            raise InputError(f"student.init_options belong to a student.init that solves, got {student.init}.")
        return None
    options = load_options(CONFIG_DIR / "kd_method" / f"{student.init}.yaml")
    method = build(OmegaConf.create({"student": {"init": {**options, **student.init_options}}}).student.init)
    if not isinstance(method, ClosedFormMethod):
        raise InputError(
            f"student.init must be {RANDOM} or a kd_method that solves for a head, such as lsq, got {student.init}."
        )
    return method


def _check_splits(cfg: DictConfig, kd_method: KDMethod, splits: Splits) -> None:
    """Rejects a data set that lacks required labels, or enough images for a quantiser."""
    if cfg.feature_baselines:
        require_bytes(cfg.bits, len(splits.train))
    if kd_method.uses_labels and not splits.has_labels:
        raise InputError(
            f"kd_method {type(kd_method).__name__} uses labels of the training images, and this data set has none; "
            "choose another kd_method, or another option of this one."
        )


def _require_nothing_remembered(parts: Mapping[str, nn.Module]) -> None:
    """Raises `InputError` for a part with state, which would diverge between processes."""
    for key, part in parts.items():
        if found := remembered(part):
            raise InputError(
                f"gather_distributed=false is not possible with {key} {type(part).__name__}: its state "
                f"({', '.join(found)}) must be the same on all devices."
            )


def _build_network(cfg: DictConfig, role: str) -> HashNetwork:
    options = cfg[role]
    L.seed_everything(options.seed, workers=True, verbose=False)
    # A checkpoint contains the backbone's weights, so there is nothing to fetch.
    ready = options.checkpoint is not None and "weights" in options.backbone
    backbone = build(options.backbone, **({"weights": None} if ready else {}))
    if backbone.image_size not in (None, cfg.transform.size):
        raise InputError(
            f"{role}.backbone takes images of {backbone.image_size} pixels, got transform.size={cfg.transform.size}."
        )
    if cfg.compile is True:
        backbone.network.compile()
    model = build(hashing_model_of(cfg, role), in_features=backbone.num_features, bits=cfg.bits, head=options.head)
    return HashNetwork(backbone, model)


def _teacher_id(cfg: DictConfig, splits: Splits, stored_views: Mapping[str, Any] | None) -> tuple[str, str | None]:
    """Fingerprint of the teacher, and again if a given teacher differs from the one the configuration would train.

    A stored teacher of release 0.1.0 keeps the fingerprint from that release.
    """
    parts = plain(cfg), splits.fingerprint, stored_views
    current, earlier = teacher_fingerprint(*parts), first_release_fingerprint(*parts)
    given = cfg.teacher.checkpoint
    if given is not None:
        found = read_architecture(given).get("about", {}).get("fingerprint") or sha256_of(given)[:16]
        if not isinstance(found, str) or not re.fullmatch("[0-9a-f]+", found):  # results and loggers use it as a name
            raise InputError(f"teacher.checkpoint {given} has {found!r} in place of a fingerprint; train it again.")
        return found, None if found in (current, earlier) else found
    known = earlier is not None and stored_teacher(cfg, earlier).is_file()
    return (earlier, None) if known and earlier else (current, None)
