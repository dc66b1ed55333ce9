"""The two trainings of a run: the teacher's, once for all runs that share it, and the student's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import lightning as L
from filelock import FileLock
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.console import Console

from brcd_lightning.callbacks import StageProgressBar, TeacherCodesCallback, TrialReport
from brcd_lightning.checkpoints import AtomicCheckpointIO, load_network, save_network
from brcd_lightning.config import build
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.files import remove_temporaries
from brcd_lightning.fingerprint import stored_network, transform
from brcd_lightning.job import Job, make_trainer, plain
from brcd_lightning.loggers import LogContext, close_loggers
from brcd_lightning.media import LoggedFile, log_files
from brcd_lightning.modules import DistillationModule, HashingModule
from brcd_lightning.resume import ResumePoint, asked_to_end


def say(text: str) -> None:
    """Prints for the user, once for all processes."""
    if is_rank_zero():
        Console(soft_wrap=True, highlight=False, markup=False).print(text)


def is_rank_zero() -> bool:
    """Whether this process speaks and writes for all."""
    return rank_zero_only.rank == 0


def teacher_stage(job: Job) -> None:
    """Loads the given teacher, or the stored one of the same fingerprint, or trains and stores it."""
    path, architecture = job.teacher_path, job.architecture("teacher")
    if job.cfg.teacher.checkpoint is not None:
        load_network(path, job.teacher, architecture, "teacher")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Concurrent jobs wait here for the one that trains; the first process does for all of its run.
    with FileLock(path.parent / "teacher.lock") if is_rank_zero() else nullcontext():
        if _agreed(job, path.is_file()):
            load_network(path, job.teacher, architecture, "teacher")
        else:
            remove_temporaries(path.parent)
            _train_teacher(job)


def _agreed(job: Job, decision: bool) -> bool:
    """What the first process decides. Processes that it starts itself come later and find what it found."""
    strategy = job.trainer.strategy
    if job.trainer.world_size == 1 or isinstance(strategy.cluster_environment, LightningEnvironment):
        return decision
    strategy.setup_environment()
    return strategy.broadcast(decision)


def _train_teacher(job: Job) -> None:
    options, architecture = job.cfg.teacher, job.architecture("teacher")
    module = HashingModule(
        job.teacher,
        options.learning_rate,
        job.cfg.map_k,
        architecture,
        optimizer=partial(build, job.cfg.optimizer),
        gathers=job.cfg.gather,
    )
    trainer, data = _trainer(job, "teacher", "val/map", []), datamodule(job, "teacher")
    log_files(trainer.loggers, _stores(job), used=True)
    _fit(job, trainer, module, data, options.seed)
    if is_rank_zero():
        about = {"fingerprint": job.teacher_id, "split": job.splits.fingerprint, "config": job.config()["teacher"]}
        save_network(job.teacher_path, job.teacher, architecture | {"about": about})
        log_files(trainer.loggers, [_teacher_file(job)])
    close_loggers()


def datamodule(job: Job, stage: str) -> HashingDataModule:
    """Loaders of a stage; where the view store serves it, builds what is missing there."""
    roles, networks = job.stored_roles(stage), {"teacher": job.teacher, "student": job.student}
    if roles:
        job.view_store.attach(
            {role: networks[role].backbone for role in roles},
            job.splits,
            job.transforms,
            {role: stored_network(plain(job.cfg), role) for role in roles} | {"transform": transform(plain(job.cfg))},
            # A test alone needs no views; its teacher may still have to be trained.
            amounts={} if (job.cfg.stage, stage) == ("test", "student") else job.view_store.amounts(job.extras(stage)),
            device=job.trainer.strategy.root_device,
            precision=job.trainer.precision,
            say=say,
            progress=job.cfg.trainer.get("enable_progress_bar", True),
        )
    return job.datamodule(stage, stored=bool(roles))


def student_stage(job: Job, module: DistillationModule, data: HashingDataModule, about: Mapping[str, Any]) -> L.Trainer:
    """Trains and saves the student unless only a test is asked for; returns the trainer that also tests."""
    callbacks: list[L.Callback] = [TeacherCodesCallback(job.run_dir, about)]
    if job.cfg.trial is not None:
        callbacks.append(TrialReport(job.run_dir, job.cfg.trial, job.cfg.paradigm.monitor))
    trainer = _trainer(job, "student", job.cfg.paradigm.monitor, callbacks)
    if job.cfg.stage == "test":
        return trainer
    log_files(trainer.loggers, [*_stores(job), _teacher_file(job)], used=True)
    _fit(job, trainer, module, data, job.cfg.student.seed)
    if is_rank_zero():
        architecture = job.architecture("student") | {"about": about}
        save_network(job.run_dir / "student.safetensors", job.student, architecture)
    return trainer


def _stores(job: Job) -> list[LoggedFile]:
    """What the view stores in use hold, by their fingerprints."""
    return [
        LoggedFile(f"features-{path.parent.name}", "dataset", path, {"backbone": role})
        for role, path in job.view_store.manifests.items()
    ]


def _teacher_file(job: Job) -> LoggedFile:
    facts = {"fingerprint": job.teacher_id, "split": job.splits.fingerprint}
    return LoggedFile(f"teacher-{job.teacher_id}", "model", job.teacher_path, facts)


def _fit(job: Job, trainer: L.Trainer, module: HashingModule, data: HashingDataModule, seed: int) -> None:
    """Trains, from where an interrupted run left off, and puts the weights of the best validation into the network."""
    L.seed_everything(seed, workers=True, verbose=False)
    (point,) = (callback for callback in trainer.callbacks if isinstance(callback, ResumePoint))
    resumes = job.cfg.resume == "auto" and point.path.exists()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(point.path) if resumes else None)
    except SIGTERMException as error:
        if not is_rank_zero():
            sys.exit(0)  # the first process reports for all; Lightning kills it soon after another one fails
        raise asked_to_end(job.run_dir) from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.strategy.barrier()
    best = trainer.checkpoint_callback.best_model_path
    if best:
        load_network(best, module.network, module.hparams["architecture"], "best")


def _trainer(job: Job, role: str, monitor: str, callbacks: list[L.Callback]) -> L.Trainer:
    """The trainer of one stage: keeps the best checkpoint and one to resume from, stops when `monitor` stops rising."""
    cfg, options = job.cfg, job.cfg[role]
    loggers = []
    if is_rank_zero():
        context = LogContext(job.run_dir, role, job.labels, cfg.bits, options.seed, job.config())
        loggers = [build(node, context=context) for node in cfg.logger.values()]
    best = ModelCheckpoint(
        dirpath=job.run_dir / "checkpoints" / role,
        filename="best",
        monitor=monitor,
        mode="max",
        enable_version_counter=False,
    )
    point = ResumePoint(job.run_dir / "checkpoints" / role / "resume.ckpt", cfg.checkpoint_every_s)
    stopping = EarlyStopping(monitor, patience=options.patience, mode="max")
    if cfg.trainer.get("enable_progress_bar", True):
        callbacks = [*callbacks, StageProgressBar()]
    epochs = job.epochs(role)
    trainer = make_trainer(
        cfg,
        max_epochs=epochs,
        check_val_every_n_epoch=min(options.check_val_every, epochs),
        callbacks=[best, stopping, build(cfg.collapse), *callbacks, point],
        logger=loggers or False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(job.run_dir),
        num_sanity_val_steps=0,  # a partial split has no mAP
        use_distributed_sampler=False,  # our samplers neither pad nor shuffle behind our back
    )
    job.trainers.append(trainer)
    return trainer
