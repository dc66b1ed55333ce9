"""Hyper-parameter search as a Hydra sweeper: every trial is a job with values chosen from the results of the others."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from brcd_lightning.config import check
from brcd_lightning.errors import InputError
from brcd_lightning.options import NonNegativeInt, PositiveInt, Seed, checked

if TYPE_CHECKING:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

_SUBDIR = "${hydra.job.num}"
_EXAMPLE = "'kd_method.alpha=interval(0.1,1)'"


class StudySweeper(Sweeper):
    """Launches trials, as many at a time as the launcher runs jobs, until enough have finished.

    The search maximises the watched metric on validation queries, never a test metric. A failed trial does not stop the
    others and does not count. The same command replaces it by another trial, as it does for the unfinished trials of a
    killed search.

    Args:
        trials: number of trials to finish, including pruned ones.
        seed: seed of the sampler.
        prune: whether to end trials that fall below the median of the others.
        startup_trials: number of trials that run to their end before any is pruned.
        warmup_epochs: number of student epochs before a trial can be pruned.
        params: overrides by key, as in ``conf/sweep``; overrides of the command line take precedence.

    Raises:
        InputError: for invalid options.
    """

    @checked("hydra.sweeper")
    def __init__(
        self,
        trials: PositiveInt,
        seed: Seed = 0,
        prune: bool = True,
        startup_trials: NonNegativeInt = 5,
        warmup_epochs: NonNegativeInt = 10,
        params: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self.trials, self.seed, self.params = trials, seed, dict(params or {})
        self.pruning = {"prune": prune, "startup_trials": startup_trials, "warmup_epochs": warmup_epochs}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self._loader, self._config = hydra_context.config_loader, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the remaining trials; `arguments` are the command's overrides."""
        try:
            from brcd_lightning.experiment.sweeps.study import Study, overrides_of, quiet  # noqa: PLC0415 (Hydra imports this file always)
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise InputError("hydra/sweeper=optuna needs optuna: pip install 'brcd_lightning[search]'.") from error
        parser = OverridesParser.create(config_loader=self._loader)
        parsed = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        given = {override.get_key_element(): override for override in parsed}  # the last override of a key wins
        space = {key: distribution(override) for key, override in given.items() if override.is_sweep_override()}
        if not space:
            raise InputError(f"a search needs an option to search, such as {_EXAMPLE}.")
        written = {key: _written(override) for key, override in given.items()}
        ends = {key: _ends(one) for key, one in space.items()}
        first = written | {key: values[0] for key, values in ends.items()}
        for key, values in ends.items():
            for value in values:
                self._check(overrides_of(first | {key: value}))
        sweep_dir = Path(self._config.hydra.sweep.dir).resolve()
        sweep_dir.mkdir(parents=True, exist_ok=True)
        try:
            quiet()
            with FileLock(sweep_dir / "study.lock", timeout=0):
                study = Study(sweep_dir, written, space, self.seed, self.pruning)
                study.settle()  # trials that a killed search left running
                missing = self.trials - study.finished()
                while missing > 0:
                    batch = [study.ask() for _ in range(min(missing, getattr(self._launcher, "jobs", 1)))]
                    jobs = [overrides_of(written | values | {"trial": number}) for number, values in batch]
                    self._launcher.launch(jobs, initial_job_idx=batch[0][0])
                    study.settle()
                    missing -= len(batch)
                    sys.stdout.write(f"{study.finished()} of {self.trials} trials have finished\n")
        except Timeout as error:
            raise InputError(f"another search runs in {sweep_dir}; wait, or give another hydra.sweep.dir.") from error

    def _check(self, overrides: Sequence[str]) -> None:
        """Rejects options that would fail in every trial, before the study starts."""
        sweep = OmegaConf.to_container(self._config.hydra.sweep, resolve=False)
        if not isinstance(sweep, dict) or sweep["subdir"] != _SUBDIR:
            raise InputError("a search names the folders of its trials by number; leave hydra.sweep.subdir as it is.")
        config = self._loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            del config["hydra"]
        check(config)
        if config.stage != "all" or config.dry_run or config.trial is not None:
            raise InputError("a search runs all stages of its trials; leave stage, dry_run and trial as they are.")


def distribution(override: Override) -> FloatDistribution | IntDistribution | CategoricalDistribution:
    """The Optuna distribution of an option: ``interval(low,high)``, ``range(...)``, ``choice(...)`` or ``a,b,c``.

    ``tag(log,...)`` makes an interval or a range logarithmic.

    Raises:
        InputError: for any other tag, and for invalid bounds.
    """
    from optuna import distributions  # noqa: PLC0415 (an extra)

    sweep = override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    log = tags == {"log"}
    try:
        if tags and not (log and isinstance(sweep, IntervalSweep | RangeSweep)):
            raise ValueError("the only tag is log, of an interval or a range")
        if isinstance(sweep, IntervalSweep):
            if isinstance(sweep.start, int):
                raise ValueError("integers are given as range(first,last+1)")
            if sweep.start is None or sweep.end is None:
                raise ValueError("an interval has two ends")
            return distributions.FloatDistribution(sweep.start, sweep.end, log=log)
        if isinstance(sweep, RangeSweep):
            values = sorted(sweep.range())
            if not values:
                raise ValueError("the range is empty")
            if isinstance(sweep.range(), range):
                return distributions.IntDistribution(
                    int(values[0]), int(values[-1]), log=log, step=int(abs(sweep.step))
                )
            return distributions.FloatDistribution(values[0], values[-1], log=log, step=abs(sweep.step))
        return distributions.CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    except ValueError as error:
        raise InputError(f"{override.input_line}: {str(error).rstrip('.')} (docs/scaling.md).") from error


def _ends(one: FloatDistribution | IntDistribution | CategoricalDistribution) -> Sequence[Any]:
    """The values whose configurations are checked before the search: all choices, or both bounds."""
    from optuna.distributions import CategoricalDistribution  # noqa: PLC0415 (an extra)

    return one.choices if isinstance(one, CategoricalDistribution) else (one.low, one.high)


def _written(override: Override) -> str | None:
    """The value of an override as the user wrote it; None if it has none."""
    _, equals, value = (override.input_line or "").partition("=")
    return value if equals else None
