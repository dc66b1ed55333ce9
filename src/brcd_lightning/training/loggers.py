"""Creation and shutdown of the experiment loggers of a stage."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger, WandbLogger

from brcd_lightning.data.names import shortened
from brcd_lightning.errors import InputError, require_choice
from brcd_lightning.metrics.declared import VALIDATED
from brcd_lightning.options import Text, checked
from brcd_lightning.results.identity import cell_options

_TAG = 64  # most characters of a tag
# By name, because wandb picks any of several matching patterns.
METRICS_UP = tuple(f"val/{metric.key(pair)}" for metric in VALIDATED for pair in ("", "sshp", "ashp"))


@dataclass(frozen=True)
class LogContext:
    """Facts about a stage for its loggers.

    Args:
        run_dir: folder of the run.
        stage: ``teacher`` or ``student``.
        coordinates: coordinates of the run in the grid, see `config.grid_coordinates`.
        bits: code length.
        seed: seed of the stage.
        config: the whole resolved configuration, plain.
    """

    run_dir: Path
    stage: str
    coordinates: Mapping[str, str]
    bits: int
    seed: int
    config: Mapping[str, Any]

    @property
    def group(self) -> str:
        """The table cell without the seed, so that dashboards average over seeds only.

        It ends in a digest of all options of the cell.
        """
        one = self.coordinates
        options = json.dumps(cell_options(self.config), sort_keys=True, default=str)
        digest = hashlib.sha256(options.encode()).hexdigest()[:6]
        networks = f"{one['teacher']}>{one['student']}"
        return f"{one['dataset']}/{one['hashing_model']}/{networks}/{one['kd_method']}/{self.bits}b/{digest}"

    @property
    def name(self) -> str:
        """Name of the stage in a dashboard."""
        return f"{self.coordinates['kd_method']}-{self.bits}b-s{self.seed}-{self.id[:6]}"

    @property
    def id(self) -> str:
        """Identifier that is stable over restarts of the same stage in the same run folder."""
        return hashlib.sha256(f"{self.run_dir.resolve()}/{self.stage}".encode()).hexdigest()[:16]


def lightning_logger(context: LogContext, logger: str, **options: Any) -> Logger:
    """Any logger of Lightning, by the name of its class.

    Args:
        context: context of the stage.
        logger: name of the class, such as ``CSVLogger`` or ``MLFlowLogger``.
        **options: options of the class. Strings may contain ``{run_dir}``, ``{stage}``, ``{name}``, ``{group}``,
            ``{id}``, ``{seed}`` and ``{bits}``, see `LogContext`.

    Raises:
        InputError: for an unknown logger, an option that it does not have, or a missing library.
    """
    kinds = [name for name in loggers.__all__ if name.endswith("Logger") and name != "Logger"]
    require_choice("logger", logger, kinds)
    kind = getattr(loggers, logger)
    facts = {name: getattr(context, name) for name in ("run_dir", "stage", "name", "group", "id", "seed", "bits")}
    try:
        given = {key: value.format(**facts) if isinstance(value, str) else value for key, value in options.items()}
        inspect.signature(kind).bind(**given)
        made: Logger = kind(**given)
    except (KeyError, IndexError) as error:
        raise InputError(
            f"logger {logger}: there is no {{{error.args[0]}}}; give one of {', '.join(facts)}."
        ) from error
    except (TypeError, ValueError, ModuleNotFoundError) as error:
        raise InputError(f"logger {logger} cannot be made: {' '.join(str(error).split())}.") from error
    return made


@checked("wandb")
def wandb_logger(context: LogContext, project: Text, entity: Text | None = None, offline: bool = False) -> Logger:
    """A Weights & Biases run: group = the table cell without its seed, job type = the stage, tags = the grid."""
    logger = WandbLogger(
        project=project,
        entity=entity,
        group=context.group,
        job_type=context.stage,
        name=context.name,
        id=context.id,
        resume="allow",
        tags=[*dict.fromkeys(shortened(name, _TAG) for name in context.coordinates.values()), f"{context.bits}b"],
        save_dir=str(context.run_dir),
        config=dict(context.config),
        offline=offline,
    )
    import wandb  # noqa: PLC0415 (slow import, needed only here)

    try:
        experiment = logger.experiment
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"wandb could not start a run ({reason}); log in with 'wandb login', or use logger=wandb_offline."
        ) from error
    define = getattr(experiment, "define_metric", None)
    if callable(define):  # absent on ranks other than 0
        define("epoch")
        define("train/*", step_metric="epoch")
        for metric in METRICS_UP:
            define(metric, step_metric="epoch", summary="max")
    return logger


def close_loggers(exit_code: int = 0) -> None:
    """Ends an open wandb run, so that the next stage or job starts its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=exit_code)
