"""The outcome of a run: results, codes and gallery, in files, on the console and in the loggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from rich.console import Console

from brcd_lightning.experiment.context import RunContext
from brcd_lightning.metrics import bootstrap_intervals
from brcd_lightning.results.gallery import save_gallery
from brcd_lightning.results.record import Outcome, Subject, make_results, save_codes, write_results
from brcd_lightning.results.run_files import CODES, GALLERY
from brcd_lightning.results.summary_table import results_tables
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.wandb_media import log_outcome


def write_outcome(
    context: RunContext,
    trainer: L.Trainer,
    module: DistillationModule,
    metrics: Mapping[str, float],
    validation: float | None,
    timings: Mapping[str, float],
    about: Mapping[str, Any],
) -> None:
    """Writes and prints the results of the test.

    Args:
        context: context of the run.
        trainer: trainer that ran the test.
        module: module with the scores and codes of the test.
        metrics: test metrics by name.
        validation: best value of the watched metric on validation queries.
        timings: seconds by stage.
        about: provenance of the student, see `RunContext.provenance`.
    """
    scores, codes = module.evaluation
    ends = bootstrap_intervals(torch.stack(list(scores.values()))).tolist()
    outcome = Outcome(
        metrics={name: each.mean().item() for name, each in scores.items()} | dict(metrics),
        intervals={name: (low, high) for name, (low, high) in zip(scores, ends, strict=True)},
        validation=validation,
        epochs=trainer.current_epoch,
        timings=timings,
    )
    subject = Subject(
        coordinates=context.coordinates,
        method=about["method"],
        uses_labels=about.get("uses_labels", False),
        transductive=about.get("transductive", False),
        relevance=context.splits.relevance,
        classes=context.splits.source.classes,
        seed=about["seed"],
        config=context.kept_config,
        sizes=context.splits.sizes(),
        fingerprints={"split": context.splits.fingerprint, "teacher": context.teacher_id},
        commit=context.commit,
    )
    results = make_results(outcome, subject)
    save_codes(context.run_dir / CODES, codes)
    title = f"{context.coordinates['kd_method']}, {context.cfg.bits} bits"
    both = (scores["test/map_sshp"] + scores["test/map_ashp"]) / 2
    save_gallery(context.run_dir / GALLERY, context.splits, codes, both, title=title)
    log_outcome(trainer.loggers, results, context.run_dir)
    write_results(context.run_dir, results)
    Console(soft_wrap=True, markup=False).print(*results_tables([results]), sep="\n")
    Console(soft_wrap=True, highlight=False, markup=False).print(f"Gallery: {context.run_dir / GALLERY}")
