"""The two trainings of a run: the teacher's, once for all runs that share it, and the student's.

A network that does not train is fitted instead, and saved in the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from brcd_lightning.config import build
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.features.builder import TransformedSplits
from brcd_lightning.data.features.cache import Display
from brcd_lightning.data.features.inference import Inference
from brcd_lightning.data.features.stored_backbone import StoredBackbone
from brcd_lightning.distributed.processes import is_rank_zero, print_rank_zero
from brcd_lightning.errors import InputError
from brcd_lightning.experiment.build import build_datamodule
from brcd_lightning.experiment.context import RunContext
from brcd_lightning.experiment.fingerprint import stored_network, transform
from brcd_lightning.experiment.signals import asked_to_end
from brcd_lightning.experiment.sweeps.pruning import TrialReport
from brcd_lightning.experiment.trainers import Trainers, best_checkpoint
from brcd_lightning.results.run_files import CHECKPOINTS, RESUME, STUDENT
from brcd_lightning.storage.checkpoints import REMEDY, load_network, save_network
from brcd_lightning.storage.locks import locked
from brcd_lightning.training.closed_form_fit import ClosedFormFit, WarmStart
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.feature_baselines import FeatureBaselines
from brcd_lightning.training.hashing_module import HashingModule, TrainingOptions
from brcd_lightning.training.loggers import close_loggers
from brcd_lightning.training.neighbour_relevance import NeighbourRelevance
from brcd_lightning.training.teacher_codes import TeacherCodesCallback
from brcd_lightning.training.wandb_media import LoggedFile, log_files


def teacher_stage(context: RunContext, trainers: Trainers) -> None:
    """Loads the given teacher, or the stored one of the same fingerprint, or trains and stores it."""
    path = context.teacher_path
    if context.cfg.teacher.checkpoint is not None:
        load_network(path, context.teacher, context.architecture("teacher"), "teacher")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Concurrent jobs wait here for the one that trains; the first process of a run waits for the whole run.
    with locked(path.parent / "teacher.lock", "trains the same teacher") if is_rank_zero() else nullcontext():
        if _agreed(trainers.idle, path.is_file()):
            _load_stored_teacher(context)
        else:
            _train_teacher(context, trainers)


def _load_stored_teacher(context: RunContext) -> None:
    path = context.teacher_path
    try:
        load_network(path, context.teacher, context.architecture("teacher"), "teacher")
    except InputError as error:
        raise InputError(f"{error} Remove {path.parent} to train the teacher again.") from error


def _agreed(trainer: L.Trainer, decision: bool) -> bool:
    """The decision of the first process. Processes that it starts later itself reach the same decision."""
    strategy = trainer.strategy
    environment = getattr(strategy, "cluster_environment", None)
    if trainer.world_size == 1 or isinstance(environment, LightningEnvironment):
        return decision
    strategy.setup_environment()
    return strategy.broadcast(decision)


def _train_teacher(context: RunContext, trainers: Trainers) -> None:
    architecture = context.architecture("teacher")
    module = HashingModule(context.teacher, training_options(context, "teacher"), architecture)
    monitor = "val/map"
    callbacks = [*_judges(context), *_closed_form(context, "teacher")]
    trainer = trainers.of_stage(context, "teacher", monitor, callbacks)
    data = stage_data(context, trainers.idle, "teacher")
    log_files(trainer.loggers, _stores(context), used=True)
    _fit(context, trainer, module, data, "teacher", monitor)
    if is_rank_zero():
        about = {
            "fingerprint": context.teacher_id,
            "split": context.splits.fingerprint,
            "config": context.kept_config["teacher"],
        }
        save_network(context.teacher_path, context.teacher, architecture | {"about": about})
        log_files(trainer.loggers, [_teacher_file(context)])
    close_loggers()


def training_options(context: RunContext, stage: str) -> TrainingOptions:
    """Options of the training of a ``teacher`` or ``student``."""
    cfg = context.cfg
    return TrainingOptions(
        cfg[stage].learning_rate,
        cfg.map_k,
        partial(build, cfg.optimizer),
        cfg.gather_distributed,
        cfg.float_queries,
        cfg.student.hashing_weight if stage == "student" else 1.0,
        _kept_scores(context),
        cfg.compile == "step",
    )


def _kept_scores(context: RunContext) -> Path:
    return Path(context.cfg.output_dir).resolve() / "evaluations"


def stage_data(context: RunContext, trainer: L.Trainer, stage: str) -> HashingDataModule:
    """Loaders of a stage. If the view store serves it, computes missing features and installs stored backbones.

    Args:
        context: context of the run.
        trainer: trainer whose device and precision compute the features.
        stage: ``teacher`` or ``student``.
    """
    roles = context.stored_roles(stage)
    stored: dict[str, StoredBackbone] = {}
    if roles:
        about = {role: stored_network(context.config, role) for role in roles}
        tested = (context.cfg.stage, stage) == ("test", "student")  # its teacher may still have to be trained
        amounts = {} if tested else context.view_store.amounts(context.extras(stage))
        stored = context.view_store.open(
            {role: context.networks[role].backbone for role in roles},
            about | {"transform": transform(context.config)},
            # Without views, all stages read the same features.
            TransformedSplits(context.trained_on[stage] if amounts else context.splits, context.transforms),
            amounts=amounts,
            inference=Inference(trainer.strategy.root_device, trainer.precision),
            display=Display(print_rank_zero, context.cfg.trainer.get("enable_progress_bar", True)),
        )
    for role, network in context.networks.items():  # online again if an earlier stage read stored features
        network.backbone = stored.get(role, network.backbone.online)
    return build_datamodule(context, stage, stored=bool(roles))


def student_stage(
    context: RunContext,
    trainers: Trainers,
    module: DistillationModule,
    data: HashingDataModule,
    about: Mapping[str, Any],
) -> tuple[L.Trainer, float | None]:
    """Trains or fits the student and saves it, unless only a test is requested.

    Args:
        context: context of the run.
        trainers: trainers of the run.
        module: module of the student.
        data: data module of the stage.
        about: provenance of the student.

    Returns:
        The trainer, also for the test, and the watched metric on validation queries; None if there is only a test.
    """
    cfg, monitor = context.cfg, context.cfg.paradigm.monitor
    callbacks = [*_judges(context), TeacherCodesCallback(context.run_dir, about), *_closed_form(context, "student")]
    if cfg.feature_baselines:
        callbacks.append(FeatureBaselines(cfg.bits, cfg.map_k, _kept_scores(context)))
    if cfg.trial is not None:
        callbacks.append(TrialReport(context.run_dir, cfg.trial, monitor))
    trainer = trainers.of_stage(context, "student", monitor, callbacks)
    if cfg.stage == "test":
        return trainer, None
    log_files(trainer.loggers, [*_stores(context), _teacher_file(context)], used=True)
    validation = _fit(context, trainer, module, data, "student", monitor)
    if is_rank_zero():
        architecture = context.architecture("student") | {"about": about}
        save_network(context.run_dir / STUDENT, context.student, architecture)
    return trainer, validation


def _judges(context: RunContext) -> list[L.Callback]:
    """Callback that defines relevance for a data set without labels."""
    neighbours = context.splits.neighbours
    return [] if neighbours is None else [NeighbourRelevance(neighbours)]


def _closed_form(context: RunContext, stage: str) -> list[L.Callback]:
    """Callbacks that compute the head of a stage, as an initialisation or instead of training."""
    if not context.trains(stage):
        return [ClosedFormFit(context.cfg[stage].seed)]
    if stage == "student" and context.warm_start is not None:
        return [WarmStart(context.warm_start, context.cfg.student.init_scale)]
    return []


def _stores(context: RunContext) -> list[LoggedFile]:
    """Manifests of the view stores in use, by their fingerprints."""
    return [
        LoggedFile(f"features-{path.parent.name}", "dataset", path, {"backbone": role})
        for role, path in context.view_store.manifests.items()
    ]


def _teacher_file(context: RunContext) -> LoggedFile:
    facts = {"fingerprint": context.teacher_id, "split": context.splits.fingerprint}
    return LoggedFile(f"teacher-{context.teacher_id}", "model", context.teacher_path, facts)


def _fit(
    context: RunContext, trainer: L.Trainer, module: HashingModule, data: HashingDataModule, stage: str, monitor: str
) -> float | None:
    """Trains, resuming an interrupted run, and loads the weights of the best validation into the network.

    A network that does not train is fitted by a callback and validated once.

    Returns:
        The best value of the watched metric on validation queries.
    """
    L.seed_everything(context.cfg[stage].seed, workers=True, verbose=False)
    if not context.trains(stage):
        return _validate(trainer, module, data, monitor)
    point = context.run_dir / CHECKPOINTS / stage / RESUME
    resumes = context.cfg.resume == "auto" and point.exists()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(point) if resumes else None)
    except RuntimeError as error:
        if resumes and "loading state_dict" in str(error):
            raise InputError(f"{point} belongs to another network or method. {REMEDY}") from error
        raise
    except SIGTERMException as error:
        if not is_rank_zero():
            sys.exit(0)  # the first process reports for all; Lightning kills it soon after another process fails
        raise asked_to_end(context.run_dir) from error
    trainer.strategy.barrier()
    best = best_checkpoint(trainer)
    if best.best_model_path:
        load_network(best.best_model_path, module.network, module.hparams["architecture"], "best")
    return None if best.best_model_score is None else float(best.best_model_score)


def _validate(trainer: L.Trainer, module: HashingModule, data: HashingDataModule, monitor: str) -> float:
    found = trainer.validate(module, datamodule=data, verbose=False)
    if not found:  # Lightning skips the validation and all its callbacks
        raise InputError("trainer.limit_val_batches must not be 0 where a head is fitted without training.")
    return found[0][monitor]
