"""The options that identify a run, for tables, dashboards, fingerprints and resuming.

An option counts unless it is listed here. A new option therefore splits cells until it is listed as one that does not
affect the results. A test requires this decision for every key of every configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brcd_lightning.storage.component_names import named_options

PASSING = frozenset(
    {
        "checkpoint_every_s",
        "data.eval_batch_size",
        "data.num_workers",
        "dataset.download",
        "dry_run",
        "feature_baselines",  # adds metrics and leaves the others unchanged
        "float_queries",  # the same
        "output_dir",
        "resume",
        "trainer.check_val_every_n_epoch",  # the stages set it
        "trainer.enable_model_summary",
        "trainer.enable_progress_bar",
        "trainer.log_every_n_steps",
        "view_store.eval_batch_size",
        "view_store.folder",
        "view_store.max_gb",
        "view_store.num_workers",
    }
)
"""Options that may change while a run is interrupted."""
PLACES = frozenset(
    {
        "dataset.root",
        "stage",
        "student.checkpoint",  # results hold the student's own options
        "trainer.accelerator",
        "trainer.deterministic",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.strategy",
        "trainer.strategy.timeout_s",
        "trainer.strategy.type",
        "trial",
    }
)
"""Options that set where and how a run works, not its results. A resumed run must still keep them."""
_PROCESSES = {"trainer.devices", "trainer.num_nodes"}
SEEDS = frozenset({"kd_method.seed", "seed", "student.seed", "teacher.seed", "view_store.seed"})
"""Options that distinguish the runs of one cell. Another ``dataset.seed`` is another split, hence another cell."""
NEUTRAL_GROUPS = ("logger",)
"""Groups without any option that counts."""
NOT_OF_TEACHERS = (
    "dataset",
    "feature_layer",
    "kd_method",
    "paradigm",
    "profile",
    "seed",
    "student",
    "teacher.checkpoint",
    "view_store",
)
"""Groups and keys that do not affect a teacher by themselves.

The data set is identified by its content and the stored views by their description (`fingerprint`). Other options refer
to ``seed`` and ``feature_layer``.
"""

OF_TEACHERS_TOO = frozenset({"dataset.relevance_k"})
"""Keys of these groups that do affect a teacher, because they select its epoch."""

LATER = {
    "student.hashing_weight": 1.0,
    "student.init": "random",
    "student.init_scale": 3.0,
    "student.train_on": "train",
}
"""Options that records of 0.1.0 lack, with the values that describe those runs."""


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options by their full keys, components by their names.

    Args:
        config: the whole resolved configuration, plain; of this release or an older one.
    """
    return LATER | named_options(_flat(config))


def lasting_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that must not change when an interrupted run is resumed."""
    return {key: value for key, value in options_of(config).items() if _lasts(key)}


def lasting_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same, nested as in the configuration, for files whose content must not depend on an interruption.

    Args:
        config: the whole resolved configuration, plain; or the part of it below ``prefix``.
        prefix: the full key of that part, with a dot at its end.
    """
    return {
        key: lasting_config(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if _lasts(f"{prefix}{key}")
    }


def cell_options(config: Mapping[str, Any], seeds: bool = False) -> dict[str, Any]:
    """The options that define a cell of a table: those that determine the results, independent of file locations.

    Args:
        config: the whole resolved configuration, plain.
        seeds: whether to include seeds, which distinguish the runs of a cell.
    """
    lasting = lasting_options(config)
    # Without gathering, each process compares only its own share of a batch.
    places = PLACES if lasting.get("gather_distributed", True) else PLACES - _PROCESSES
    return {key: value for key, value in lasting.items() if key not in places and (seeds or key not in SEEDS)}


def teacher_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that affect the weights of a teacher, besides its data and stored views."""
    options = cell_options(config, seeds=True)
    own = "teacher.hashing_model."
    if any(key.startswith(own) for key in options):  # in place of the student's
        given = {key.removeprefix("teacher."): value for key, value in options.items() if key.startswith(own)}
        options = {key: value for key, value in options.items() if not _is_below(key, ("hashing_model", own[:-1]))}
        options |= given
    return {
        key: value for key, value in options.items() if key in OF_TEACHERS_TOO or not _is_below(key, NOT_OF_TEACHERS)
    }


def _lasts(key: str) -> bool:
    return key not in PASSING and not _is_below(key, NEUTRAL_GROUPS)


def _is_below(key: str, groups: tuple[str, ...]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
