"""Types, by full key, of the options that are not checked against the annotations of a constructor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len

from brcd_lightning.options import (
    AnchorView,
    BatchSize,
    Head,
    ImageSize,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Seed,
    Text,
    UnitInterval,
)

_Bits = Annotated[int, Interval(ge=1, le=2**16)]
_Below1 = Annotated[float, Interval(ge=0, lt=1)]
_Batches = NonNegativeInt | UnitInterval | None  # a number of batches, or a fraction
_Devices = PositiveInt | Literal["auto", -1] | Annotated[Sequence[NonNegativeInt], Len(1, 1024)]
_Precision = (
    Literal["64", "32", "16", "bf16", 64, 32, 16]
    | Literal["64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]
    | Literal["transformer-engine", "transformer-engine-float16"]
)

_GENERAL: dict[str, Any] = {
    "stage": Literal["all", "teacher", "student", "test"],
    "resume": Literal["never", "auto"],
    "bits": _Bits,
    "map_k": PositiveInt,
    "seed": Seed,
    "trial": NonNegativeInt | None,
    "anchor_view": AnchorView,
    "feature_layer": Literal["penultimate", "logits"],
    "output_dir": Text,
    "checkpoint_every_s": NonNegative,
    "dry_run": bool,
    "compile": bool | Literal["step"],
    "gather_distributed": bool,
    "float_queries": bool,
    "feature_baselines": bool,
    "data.batch_size": BatchSize,
    "transform.size": ImageSize,
    "paradigm.monitor": Literal["val/map_sshp", "val/map_ashp"],
    "student.train_on": Literal["train", "database"],
    "student.init_scale": Positive,
    "student.hashing_weight": NonNegative,
}
_NETWORK: dict[str, Any] = {
    "seed": Seed,
    "max_epochs": PositiveInt,
    "check_val_every": PositiveInt,
    "patience": PositiveInt,
    "learning_rate": Positive,
    "head": Head,
    "checkpoint": Text | None,
}
_TRAINER: dict[str, Any] = {
    "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
    "devices": _Devices,
    "num_nodes": PositiveInt,
    "precision": _Precision | None,
    "deterministic": bool | Literal["warn"] | None,
    "benchmark": bool | None,
    "log_every_n_steps": NonNegativeInt | None,
    "enable_progress_bar": bool | None,
    "enable_model_summary": bool | None,
    "sync_batchnorm": bool,
    "max_epochs": PositiveInt | None,
    "max_steps": PositiveInt | Literal[-1],
    "check_val_every_n_epoch": PositiveInt | None,
    "accumulate_grad_batches": PositiveInt,
    "gradient_clip_val": NonNegative | None,
    "limit_train_batches": _Batches,
    "limit_val_batches": _Batches,
    "limit_test_batches": _Batches,
}
_OPTIMIZER: dict[str, Any] = {
    "weight_decay": NonNegative,
    "momentum": _Below1,
    "dampening": _Below1,
    "betas": Annotated[Sequence[_Below1], Len(2, 2)],
    "eps": NonNegative,
    **dict.fromkeys(("nesterov", "amsgrad", "maximize"), bool),
    **dict.fromkeys(("fused", "foreach", "capturable", "differentiable"), bool | None),
}
_LOGGER: dict[str, Any] = {
    "logger": Text,
    "save_dir": Text,
    "name": Text | None,
    "version": Text | NonNegativeInt | None,
    "project": Text,
    "entity": Text | None,
    "offline": bool,
}


def typed_options(config: Mapping[Any, Any]) -> Iterator[tuple[str, object, Any]]:
    """Full key, value and annotation of each option that is checked here.

    Args:
        config: the whole resolved configuration, as plain data, whose groups hold options by name.
    """
    for key, hint in _GENERAL.items():
        group, _, name = key.rpartition(".")
        yield key, (config[group] if group else config).get(name), hint
    for role in ("teacher", "student"):
        yield from ((f"{role}.{name}", config[role].get(name), hint) for name, hint in _NETWORK.items())
    tables = {"trainer": _TRAINER, "optimizer": _OPTIMIZER} | {f"logger.{name}": _LOGGER for name in config["logger"]}
    for key, table in tables.items():
        group, _, name = key.partition(".")
        options = config[group][name] if name else config[group]
        yield from ((f"{key}.{option}", options[option], hint) for option, hint in table.items() if option in options)
