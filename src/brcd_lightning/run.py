"""One run: teacher, student, test, results. `train` calls it with a composed configuration."""

from __future__ import annotations

import csv
import errno
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

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from brcd_lightning.checkpoints import load_network
from brcd_lightning.config import build
from brcd_lightning.data.manifest import write_manifest
from brcd_lightning.errors import InputError, RunEnded
from brcd_lightning.files import remove_temporaries, write_text
from brcd_lightning.gallery import GALLERY, save_gallery
from brcd_lightning.job import Job, build_job, plan
from brcd_lightning.loggers import close_loggers
from brcd_lightning.media import log_outcome
from brcd_lightning.metrics import bootstrap_intervals
from brcd_lightning.modules import DistillationModule
from brcd_lightning.results import (
    DONE,
    PRUNED,
    RESULTS,
    make_results,
    recorded_metric,
    results_table,
    save_codes,
    test_metric,
    write_results,
)
from brcd_lightning.resume import CONFIG, claim, end_when_asked
from brcd_lightning.stages import datamodule, is_rank_zero, say, student_stage, teacher_stage
from brcd_lightning.strategies import tells_of_lost_process

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
warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # `require_processes` knows better
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # the data module is
warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # metrics of gathered codes are the same everywhere
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def run(cfg: DictConfig) -> float | None:
    """Runs the stages that ``cfg.stage`` asks for.

    Returns:
        The watched test metric (what a sweep compares), None when nothing was tested.
    """
    end_when_asked(_run_dir())
    if _has_finished(cfg):
        return recorded_metric(_run_dir(), cfg.paradigm.monitor)
    job = build_job(cfg)
    say(plan(job))
    if cfg.dry_run:
        return None
    exit_code = 1
    try:
        metric = _run_stages(job)
        exit_code = 0
    except RunEnded as error:
        exit_code = error.exit_code
        raise
    except RuntimeError as error:
        if job.trainer.world_size > 1 and tells_of_lost_process(error):
            raise RunEnded(f"another process of this run ended or hangs ({str(error).splitlines()[0]}).") from error
        raise
    except OSError as error:
        places = (job.run_dir, Path(cfg.output_dir).resolve())
        ours = error.filename and any(Path(error.filename).is_relative_to(place) for place in places)
        if not ours and error.errno not in DISK_FULL:
            raise
        raise InputError(
            f"{error.filename or job.run_dir} cannot be written: {error.strerror}; make room or choose another folder, "
            "then continue with resume=auto."
        ) from error
    finally:
        close_loggers(exit_code)
        if exit_code:  # after the loggers: Lightning kills this process soon after those that it started end
            _end_processes(job)
    say(f"Teacher: {job.teacher_path}\nResults are in {job.run_dir}")
    if is_rank_zero():
        write_text(job.run_dir / DONE, "")  # the last act: a run without it did not finish
    return metric


def _end_processes(job: Job) -> None:
    """Ends the processes that this one started: without it they would wait for nothing."""
    for trainer in job.trainers:
        for process in getattr(trainer.strategy.launcher, "procs", ()):
            process.kill()


def _has_finished(cfg: DictConfig) -> bool:
    """Whether the run is to be continued and there is nothing left to do."""
    run_dir = _run_dir()
    if cfg.resume != "auto" or cfg.dry_run or not (run_dir / DONE).exists():
        return False
    claim(run_dir, OmegaConf.to_container(cfg, resolve=True))
    say(f"Finished already: {run_dir}")
    return True


def _run_dir() -> Path:
    return Path(HydraConfig.get().runtime.output_dir).resolve()


def _run_stages(job: Job) -> float | None:
    cfg, timings = job.cfg, {}
    if is_rank_zero():
        _clear(job)
        write_manifest(Path(cfg.output_dir).resolve() / "splits", job.splits)
    about = job.provenance() if cfg.stage != "test" else _load_student(job)
    # A tested student is what its file says, whatever the command line calls it.
    job = replace(job, labels={**job.labels, "kd_method": about["kd_method"]})

    started = time.perf_counter()
    teacher_stage(job)
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
    data = datamodule(job, "student")
    timings["store_seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    trainer = student_stage(job, module, data, about)
    timings["student_seconds"] = time.perf_counter() - started
    if cfg.stage == "student":
        return None

    started = time.perf_counter()
    metrics = trainer.test(module, datamodule=data, verbose=False)[0]
    timings["test_seconds"] = time.perf_counter() - started
    if is_rank_zero():
        best = trainer.checkpoint_callback.best_model_score
        _report(job, module, metrics, timings, trainer.current_epoch, about, best)
    return metrics[test_metric(cfg.paradigm.monitor)]


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


def _report(
    job: Job,
    module: DistillationModule,
    metrics: Mapping[str, float],
    timings: Mapping[str, float],
    epochs: int,
    about: Mapping[str, Any],
    best: float | None,
) -> None:
    ends = bootstrap_intervals(torch.stack(list(module.evaluation.scores.values()))).tolist()
    results = make_results(
        metrics=metrics,
        intervals={name: (low, high) for name, (low, high) in zip(module.evaluation.scores, ends, strict=True)},
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
    save_codes(job.run_dir / "codes.safetensors", module.evaluation.codes)
    title = f"{job.labels['kd_method']}, {job.cfg.bits} bits"
    scores = (module.evaluation.scores["test/map_sshp"] + module.evaluation.scores["test/map_ashp"]) / 2
    save_gallery(job.run_dir / GALLERY, job.splits, module.evaluation.codes, scores, title=title)
    log_outcome(module.loggers, results, job.run_dir)
    write_results(job.run_dir, results)
    Console(soft_wrap=True).print(results_table([results]))
    say(f"Gallery: {job.run_dir / GALLERY}")


def _clear(job: Job) -> None:
    """Takes the folder of the run: removes what an earlier one left there unless it is to be continued."""
    for folder in (job.run_dir, *job.run_dir.glob("checkpoints/*")):
        remove_temporaries(folder)
    for metrics in job.run_dir.glob("metrics/*/metrics.csv"):  # which Lightning's logger would overwrite
        earlier = len(list(metrics.parent.iterdir()))
        metrics.rename(metrics.with_name(f"metrics_before_{earlier}.csv"))
    outcome = [job.run_dir / name for name in (DONE, PRUNED, RESULTS)]
    if job.cfg.resume != "auto":
        outcome += [job.run_dir / CONFIG, *job.run_dir.glob("checkpoints/*/resume.ckpt")]
    for path in outcome:
        path.unlink(missing_ok=True)
    claim(job.run_dir, job.config())
    if not job.splits.skipped:
        return
    text = io.StringIO()
    csv.writer(text).writerows([("image", "reason"), *job.splits.skipped.items()])
    write_text(job.run_dir / "skipped_images.csv", text.getvalue())
