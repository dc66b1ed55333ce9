"""One run: teacher, student, test, results. `train` calls it with a composed configuration."""

from __future__ import annotations

import csv
import io
import logging
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from brcd_lightning.callbacks import StageProgressBar, TeacherCodesCallback
from brcd_lightning.checkpoints import AtomicCheckpointIO, load_network, save_network
from brcd_lightning.config import build
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.manifest import write_manifest
from brcd_lightning.errors import InputError
from brcd_lightning.files import write_text
from brcd_lightning.fingerprint import transform
from brcd_lightning.gallery import save_gallery
from brcd_lightning.job import Job, build_job, make_trainer, plan
from brcd_lightning.loggers import LogContext, close_loggers
from brcd_lightning.modules import DistillationModule, HashingModule
from brcd_lightning.results import DONE, RESULTS, make_results, results_table, save_codes, write_results

if not torch.cuda.is_available():
    # Lightning has torch look for NVIDIA's driver by loading its library, which an optimiser does in every step; where
    # there is none, that takes longer than the step of a small head.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
# With deterministic algorithms torch fills every new tensor first, for code that reads what it never wrote. Nothing
# here does, and the fills are a twelfth of a step on stored features.
torch.utils.deterministic.fill_uninitialized_memory = False
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no device lists and no advertisements
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen backbones are
warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")


def run(cfg: DictConfig) -> float | None:
    """Runs the stages that ``cfg.stage`` asks for.

    Returns:
        The watched test metric (what a sweep compares), None when nothing was tested.
    """
    job = build_job(cfg)
    _say(plan(job))
    if cfg.dry_run:
        return None
    exit_code = 1
    try:
        metric = _run_stages(job)
        exit_code = 0
    finally:
        close_loggers(exit_code)
    _say(f"Teacher: {job.teacher_path}\nResults are in {job.run_dir}")
    if _is_rank_zero():
        write_text(job.run_dir / DONE, "")  # the last act: a run without it did not finish
    return metric


def _say(text: str) -> None:
    if _is_rank_zero():
        Console(soft_wrap=True, highlight=False, markup=False).print(text)


def _is_rank_zero() -> bool:
    return rank_zero_only.rank == 0


def _run_stages(job: Job) -> float | None:
    cfg, timings = job.cfg, {}
    if _is_rank_zero():
        _clear(job)
        write_manifest(Path(cfg.output_dir).resolve() / "splits", job.splits)
    about = job.provenance() if cfg.stage != "test" else _load_student(job)
    # A tested student is what its file says, whatever the command line calls it.
    job = replace(job, labels={**job.labels, "kd_method": about["kd_method"]})

    started = time.perf_counter()
    _teacher_stage(job)
    timings["teacher_seconds"] = time.perf_counter() - started
    if cfg.stage == "teacher":
        return None

    module = DistillationModule(
        job.student,
        job.teacher,
        job.kd_method,
        cfg.anchor_view,
        learning_rate=cfg.student.learning_rate,
        map_k=cfg.map_k,
        architecture=job.architecture("student") | {"about": about},
        optimizer=partial(build, cfg.optimizer),
        gathers=cfg.gather,
    )
    started = time.perf_counter()
    datamodule = _datamodule(job, "student")
    timings["store_seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    trainer = _student_stage(job, module, datamodule, about)
    timings["student_seconds"] = time.perf_counter() - started
    if cfg.stage == "student":
        return None

    started = time.perf_counter()
    metrics = trainer.test(module, datamodule=datamodule, verbose=False)[0]
    timings["test_seconds"] = time.perf_counter() - started
    if _is_rank_zero():
        best = trainer.checkpoint_callback.best_model_score
        _report(job, module, metrics, timings, trainer.current_epoch, about, best)
    return metrics[cfg.paradigm.monitor.replace("val/", "test/")]


def _load_student(job: Job) -> dict[str, Any]:
    """Loads the student to test, before the teacher, which may have to train first; returns its provenance."""
    path = job.cfg.student.checkpoint
    about = load_network(path, job.student, job.architecture("student"), "student").get("about", {})
    current = job.provenance()
    for key in ("split", "teacher"):
        if about.get(key) != current[key]:
            raise InputError(
                f"student checkpoint {path} belongs to {key} {about.get(key)}, but this run has {key} {current[key]}; "
                "repeat the options of the student's run, or give its teacher as teacher.checkpoint."
            )
    return about


def _teacher_stage(job: Job) -> None:
    """Loads the given teacher, or the stored one of the same fingerprint, or trains and stores it."""
    path = job.teacher_path
    if job.cfg.teacher.checkpoint is not None:
        load_network(path, job.teacher, job.architecture("teacher"), "teacher")
    elif _is_rank_zero():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / "teacher.lock"):  # concurrent jobs wait here for the one that trains
            _load_or_train_teacher(job)
    else:  # rank 0 decided under the lock and is waiting inside the same fit
        _load_or_train_teacher(job)


def _load_or_train_teacher(job: Job) -> None:
    options, path = job.cfg.teacher, job.teacher_path
    architecture = job.architecture("teacher")
    if path.is_file():
        load_network(path, job.teacher, architecture, "teacher")
        return
    optimizer = partial(build, job.cfg.optimizer)
    gathers = job.cfg.gather
    module = HashingModule(job.teacher, options.learning_rate, job.cfg.map_k, architecture, optimizer, gathers)
    _fit(_trainer(job, "teacher", "val/map", []), module, _datamodule(job, "teacher"), options.seed)
    close_loggers()
    if _is_rank_zero():
        about = {"fingerprint": job.teacher_id, "split": job.splits.fingerprint, "config": job.config()["teacher"]}
        save_network(path, job.teacher, architecture | {"about": about})


def _datamodule(job: Job, stage: str) -> HashingDataModule:
    """Loaders of a stage; where the view store serves it, builds what is missing there."""
    roles, networks = job.stored_roles(stage), {"teacher": job.teacher, "student": job.student}
    if roles:
        job.view_store.attach(
            {role: networks[role].backbone for role in roles},
            job.splits,
            job.transforms,
            {role: job.architecture(role)["backbone"] for role in roles} | {"transform": transform(job.cfg)},
            # A test alone needs no views; its teacher may still have to be trained.
            amounts={} if (job.cfg.stage, stage) == ("test", "student") else job.view_store.amounts(job.extras(stage)),
            device=job.trainer.strategy.root_device,
            precision=job.trainer.precision,
            say=_say,
            progress=job.cfg.trainer.get("enable_progress_bar", True),
        )
    return job.datamodule(stage, stored=bool(roles))


def _student_stage(
    job: Job, module: DistillationModule, datamodule: HashingDataModule, about: Mapping[str, Any]
) -> L.Trainer:
    """Trains and saves the student unless only a test is asked for; returns the trainer that also tests."""
    trainer = _trainer(job, "student", job.cfg.paradigm.monitor, [TeacherCodesCallback(job.run_dir, about)])
    if job.cfg.stage == "test":
        return trainer
    _fit(trainer, module, datamodule, job.cfg.student.seed)
    if _is_rank_zero():
        architecture = job.architecture("student") | {"about": about}
        save_network(job.run_dir / "student.safetensors", job.student, architecture)
    return trainer


def _fit(trainer: L.Trainer, module: HashingModule, datamodule: HashingDataModule, seed: int) -> None:
    """Trains, then puts the weights of the best validation back into the network."""
    L.seed_everything(seed, workers=True, verbose=False)
    trainer.fit(module, datamodule=datamodule)
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.strategy.barrier()
    best = trainer.checkpoint_callback.best_model_path
    if best:
        load_network(best, module.network, module.hparams["architecture"], "best")


def _trainer(job: Job, role: str, monitor: str, callbacks: list[L.Callback]) -> L.Trainer:
    """The trainer of one stage: keeps the best and the last checkpoint, stops when `monitor` no longer rises."""
    cfg, options = job.cfg, job.cfg[role]
    loggers = []
    if _is_rank_zero():
        context = LogContext(job.run_dir, role, job.labels, cfg.bits, options.seed, job.config())
        loggers = [build(node, context=context) for node in cfg.logger.values()]
    best = ModelCheckpoint(
        dirpath=job.run_dir / "checkpoints" / role,
        filename="best",
        monitor=monitor,
        mode="max",
        save_last=True,
        enable_version_counter=False,
    )
    stopping = EarlyStopping(monitor, patience=options.patience, mode="max")
    if cfg.trainer.get("enable_progress_bar", True):
        callbacks = [*callbacks, StageProgressBar()]
    epochs = job.epochs(role)
    return make_trainer(
        cfg,
        max_epochs=epochs,
        check_val_every_n_epoch=min(options.check_val_every, epochs),
        callbacks=[best, stopping, build(cfg.collapse), *callbacks],
        logger=loggers or False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(job.run_dir),
        num_sanity_val_steps=0,  # a partial split has no mAP
        use_distributed_sampler=False,  # our samplers neither pad nor shuffle behind our back
    )


def _report(
    job: Job,
    module: DistillationModule,
    metrics: Mapping[str, float],
    timings: Mapping[str, float],
    epochs: int,
    about: Mapping[str, Any],
    best: float | None,
) -> None:
    results = make_results(
        metrics=metrics,
        intervals=module.intervals,
        labels=job.labels,
        method=about["method"],
        uses_labels=about.get("uses_labels", False),
        validation=None if best is None else float(best),
        seed=about["seed"],
        timings=timings,
        config=job.config(),
        sizes=job.splits.sizes(),
        epochs=epochs,
        fingerprints={"split": job.splits.fingerprint, "teacher": job.teacher_id},
    )
    save_codes(job.run_dir / "codes.safetensors", module.codes)
    title = f"{job.labels['kd_method']}, {job.cfg.bits} bits"
    save_gallery(job.run_dir / "gallery.png", job.splits, module.codes, title=title)
    write_results(job.run_dir, results)
    Console(soft_wrap=True).print(results_table([results]))
    _say(f"Gallery: {job.run_dir / 'gallery.png'}")


def _clear(job: Job) -> None:
    """Removes what an earlier run in the same folder left as its outcome, and lists the images left out."""
    for name in (DONE, RESULTS):
        (job.run_dir / name).unlink(missing_ok=True)
    if not job.splits.skipped:
        return
    text = io.StringIO()
    csv.writer(text).writerows([("image", "reason"), *job.splits.skipped.items()])
    write_text(job.run_dir / "skipped_images.csv", text.getvalue())
