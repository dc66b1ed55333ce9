"""One run: teacher, student, test, results. `train` calls it with a composed configuration."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from brcd_lightning.config import check_parts, plain
from brcd_lightning.data.manifest import write_manifest
from brcd_lightning.data.workers import lost_worker
from brcd_lightning.distributed.processes import is_rank_zero, print_rank_zero, tells_of_lost_process
from brcd_lightning.errors import InputError, RunEnded
from brcd_lightning.experiment.build import build_context
from brcd_lightning.experiment.context import RunContext
from brcd_lightning.experiment.outcome import write_outcome
from brcd_lightning.experiment.plan import plan
from brcd_lightning.experiment.run_folder import claim_run_folder, own_run_folder, take_run_folder
from brcd_lightning.experiment.signals import end_when_asked
from brcd_lightning.experiment.stages import stage_data, student_stage, teacher_stage, training_options
from brcd_lightning.experiment.trainers import Trainers
from brcd_lightning.results.record import recorded_metric, tested_metric
from brcd_lightning.results.run_files import DONE, STUDENT
from brcd_lightning.storage.atomic import write_text
from brcd_lightning.storage.checkpoints import load_network
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.loggers import close_loggers

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def run(cfg: DictConfig) -> float | None:
    """Runs the stages that ``cfg.stage`` asks for.

    Returns:
        The watched test metric, which a sweep compares; None if nothing was tested.
    """
    end_when_asked(_run_dir())
    if _has_finished(cfg):
        return recorded_metric(_run_dir(), cfg.paradigm.monitor)
    check_parts(cfg)
    trainers = Trainers(cfg)
    context = build_context(cfg, trainers.idle.world_size)
    print_rank_zero(plan(context, trainers.idle))
    if cfg.dry_run:
        return None
    with own_run_folder(context.run_dir) if is_rank_zero() else nullcontext():
        return _execute(context, trainers)


def _execute(context: RunContext, trainers: Trainers) -> float | None:
    """Runs the stages and shuts down everything that they started, even after an error."""
    exit_code = 1
    try:
        metric = _run_stages(context, trainers)
        exit_code = 0
    except RunEnded as error:
        exit_code = error.exit_code
        raise
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns it into an exit with code 1
            raise KeyboardInterrupt from None
        raise
    except (RuntimeError, OSError) as error:
        if (explained := _explained(error, context, trainers)) is not None:
            raise explained from error
        raise
    finally:
        close_loggers(exit_code)
        if exit_code:  # after the loggers: Lightning kills this process soon after those that it started end
            trainers.end_processes()
    print_rank_zero(f"Teacher: {context.teacher_path}\nResults are in {context.run_dir}")
    if is_rank_zero():
        write_text(context.run_dir / DONE, "")  # written last: a run without it did not finish
    return metric


def _explained(error: RuntimeError | OSError, context: RunContext, trainers: Trainers) -> BaseException | None:
    """The message for an error that the environment caused; None for a bug, which keeps its traceback."""
    if isinstance(error, RuntimeError):
        if (lost := lost_worker(error)) is not None:
            return RunEnded(lost)
        if trainers.idle.world_size == 1 or not tells_of_lost_process(error):
            return None
        return RunEnded(f"another process of this run ended or hangs ({str(error).splitlines()[0]}).")
    places = (context.run_dir, Path(context.cfg.output_dir).resolve())
    ours = error.filename and any(Path(error.filename).is_relative_to(place) for place in places)
    if not ours and error.errno not in DISK_FULL:
        return None
    return InputError(
        f"{error.filename or context.run_dir} cannot be written: {error.strerror}; make room or choose another "
        "folder, then continue with resume=auto."
    )


def _has_finished(cfg: DictConfig) -> bool:
    """True if the run is to be resumed and nothing is left to do."""
    run_dir = _run_dir()
    if cfg.resume != "auto" or cfg.dry_run or not (run_dir / DONE).exists():
        return False
    if cfg.stage in ("all", "student") and not (run_dir / STUDENT).exists():  # removed since: trained again
        return False
    claim_run_folder(run_dir, plain(cfg))
    print_rank_zero(f"Finished already: {run_dir}")
    return True


def _run_dir() -> Path:
    return Path(HydraConfig.get().runtime.output_dir).resolve()


def _run_stages(context: RunContext, trainers: Trainers) -> float | None:
    cfg, timings = context.cfg, Timings()
    if is_rank_zero():
        take_run_folder(context)
        write_manifest(Path(cfg.output_dir).resolve() / "splits", context.splits)
    about = context.provenance() if cfg.stage != "test" else _load_student(context)
    # A tested student is described by its file, not by the command line.
    context = replace(
        context,
        coordinates={**context.coordinates, "kd_method": about["kd_method"]},
        student_config=_student_config(context, about) if cfg.stage == "test" else None,
    )
    with timings.of("teacher"):
        teacher_stage(context, trainers)
    if cfg.stage == "teacher":
        return None
    module = _distillation_module(context, about)
    with timings.of("store"):
        data = stage_data(context, trainers.idle, "student")
    with timings.of("student"):
        trainer, validation = student_stage(context, trainers, module, data, about)
    if cfg.stage == "student":
        return None
    with timings.of("test"):
        metrics = trainer.test(module, datamodule=data, verbose=False)[0]
    if is_rank_zero():
        write_outcome(context, trainer, module, metrics, validation, timings.seconds, about)
    return metrics[tested_metric(cfg.paradigm.monitor)]


class Timings:
    """Seconds per stage of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Times a block."""
        started = time.perf_counter()
        yield
        self.seconds[f"{stage}_seconds"] = time.perf_counter() - started


def _distillation_module(context: RunContext, about: Mapping[str, Any]) -> DistillationModule:
    return DistillationModule(
        context.student,
        context.teacher,
        context.kd_method,
        training_options(context, "student"),
        context.architecture("student") | {"about": about},
        context.cfg.anchor_view,
    )


def _student_config(context: RunContext, about: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration that a tested student was trained with; a file of release 0.1.0 has only its method."""
    config: Mapping[str, Any] = about.get("config") or context.kept_config | {"kd_method": about["method"]}
    return config


def _load_student(context: RunContext) -> dict[str, Any]:
    """Loads the student to test, before a teacher may have to train, and returns its provenance."""
    path = context.cfg.student.checkpoint
    found = load_network(path, context.student, context.architecture("student"), "student")
    about, current = found.get("about", {}), context.provenance()
    for key in ("split", "teacher"):
        if about.get(key) != current[key]:
            raise InputError(
                f"student checkpoint {path} belongs to {key} {about.get(key)}, but this run has {key} {current[key]}; "
                "repeat the options of the student's run, or give its teacher as teacher.checkpoint."
            )
    return about
