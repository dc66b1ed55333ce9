"""The resolved plan of a run, in a few lines."""

from __future__ import annotations

import lightning as L
from torch import nn

from brcd_lightning.experiment.build import build_datamodule
from brcd_lightning.experiment.context import RunContext
from brcd_lightning.training.losses import remembered


def plan(context: RunContext, trainer: L.Trainer) -> str:
    """Describes data, networks, distillation, steps, and the folder of results.

    Args:
        context: context of the run.
        trainer: trainer with the configuration of the stages' trainers.
    """
    cfg, one = context.cfg, context.coordinates
    steps = build_datamodule(context, "student").steps_per_epoch()
    limit = trainer.limit_train_batches
    steps = min(steps, limit) if isinstance(limit, int) else int(steps * (limit or 1.0))
    sizes = ", ".join(f"{role} {size}" for role, size in context.splits.sizes().items())
    if cfg.student.train_on == "database":
        sizes += f"; student trained on {len(context.trained_on['student'].train)} database images, without labels"
    lines = [
        f"Data: {one['dataset']}, {sizes}",
        *(_network_line(context, role) for role in ("teacher", "student")),
        f"Distillation: {_distillation(context)}, {cfg.bits} bits, anchors {cfg.anchor_view}; chosen by "
        f"{cfg.paradigm.monitor} on validation queries (mAP@{cfg.map_k})",
        _features_line(context),
        f"Steps: {steps} per epoch of batch {cfg.data.batch_size}; teacher {_length(context, 'teacher')} "
        f"({_teacher_state(context)}), student {_length(context, 'student')}",
        f"Results go to {context.run_dir}",
    ]
    if cfg.compile == "step":
        lines.insert(-1, _losses_line(context))
    if not context.splits.has_labels:
        lines.insert(1, f"Relevance: {context.splits.relevance}; no labels")
    if repetition := context.splits.repetition:
        lines.insert(1, f"Repeated: {repetition}")
    if context.splits.skipped:
        lines.insert(1, f"Skipping {len(context.splits.skipped)} unreadable images, listed in skipped_images.csv")
    return "\n".join(lines)


def _losses_line(context: RunContext) -> str:
    """Networks whose losses ``compile=step`` compiles, and the reason for each of the others."""
    parts: dict[str, list[nn.Module]] = {
        role: [context.networks[role].hashing_model] for role in ("teacher", "student")
    }
    parts["student"].append(context.kd_method)
    states = []
    for role, its in parts.items():
        kept = [type(part).__name__ for part in its if remembered(part)]
        states.append(f"{role} not ({', '.join(kept)} has a memory)" if kept else role)
    return f"Compiled losses: {', '.join(states)}"


def _distillation(context: RunContext) -> str:
    one = context.coordinates
    start = "" if context.warm_start is None else f" from the head of {context.cfg.student.init}"
    return f"{one['kd_method']} on {one['hashing_model']}{start}"


def _network_line(context: RunContext, role: str) -> str:
    network = context.networks[role]
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    head = context.cfg[role].head
    return f"{role.capitalize()}: {context.coordinates[role]}, {head} head, {total:,} parameters, {trained:,} trained"


def _features_line(context: RunContext) -> str:
    """Source of the features of each stage."""
    views = context.view_store.views
    kinds = {stage: "stored" if context.stored_roles(stage) else "online" for stage in ("teacher", "student")}
    seen = any(context.extras(stage).views for stage, kind in kinds.items() if kind == "stored")
    stored = f" (stored: {views} views of each training image, computed once)" if seen else ""
    return f"Features: teacher {kinds['teacher']}, student {kinds['student']}{stored}"


def _length(context: RunContext, stage: str) -> str:
    """Length of the training of a stage."""
    return f"at most {context.max_epochs(stage)} epochs" if context.trains(stage) else "fitted without training"


def _teacher_state(context: RunContext) -> str:
    if context.cfg.teacher.checkpoint is not None:
        return f"given: {context.teacher_path}"
    if context.teacher_path.is_file():
        return "stored already"
    return "to be trained" if context.trains("teacher") else "to be fitted"
