"""The Optuna study of a hyper-parameter search, stored in one file in the sweep's folder.

Trial n is the run in ``<sweep>/<n>``. Runs report their validation metrics; only the search records how trials ended.
"""

from __future__ import annotations

import csv
import io
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from brcd_lightning.errors import InputError, RunEnded
from brcd_lightning.results.record import read_results
from brcd_lightning.results.run_files import DONE, PRUNED, TRIALS
from brcd_lightning.storage.atomic import write_text

STUDY = "study.journal"
_NAME = "search"
_OVERRIDES, _PRUNING = "overrides", "pruning"


class Study:
    """The trials of one search, created or continued.

    Args:
        sweep_dir: folder of the search.
        overrides: all overrides of the command by key, as written; a study belongs to one such set.
        space: distributions of the searched options, by key.
        seed: seed of the sampler; after the same results, trial n of the same search tries the same values.
        pruning: ``prune``, ``startup_trials`` and ``warmup_epochs``, see `optuna_sweeper.StudySweeper`.

    Raises:
        InputError: if the folder holds another search, another sweep or a damaged study.
    """

    def __init__(
        self,
        sweep_dir: Path,
        overrides: Mapping[str, str | None],
        space: Mapping[str, BaseDistribution],
        seed: int,
        pruning: Mapping[str, Any],
    ) -> None:
        self.sweep_dir, self.overrides, self.space, self.seed = sweep_dir, dict(overrides), dict(space), seed
        if not (sweep_dir / STUDY).exists() and any(sweep_dir.glob("*/.hydra")):
            raise InputError(f"{sweep_dir} holds jobs of another sweep; give the search a hydra.sweep.dir of its own.")
        _require_whole(sweep_dir / STUDY)
        storage = _storage(sweep_dir)
        self._study = optuna.create_study(
            storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True, pruner=NopPruner()
        )
        found = self._study.user_attrs.get(_OVERRIDES, self.overrides)
        for key in sorted(found.keys() | self.overrides.keys()):
            theirs, ours = _shown(key, found), _shown(key, self.overrides)
            if theirs != ours:
                raise InputError(
                    f"{sweep_dir} holds a search with {theirs}, this one has {ours}; give the same options, or another "
                    "hydra.sweep.dir."
                )
        self._study.set_user_attr(_OVERRIDES, self.overrides)
        self._study.set_user_attr(_PRUNING, dict(pruning))

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Starts a trial; returns its number and the values to try, by key."""
        number = len(self._study.trials)
        # One generator per trial: a shared one would restart, and try the same values again, with every command.
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.sampler = TPESampler(seed=seed, constant_liar=True)
        trial = self._study.ask(self.space)
        return trial.number, trial.params

    def settle(self) -> None:
        """Ends the trials that no process runs any more, based on their folders, and writes ``study.csv``.

        A run without ``DONE`` or ``PRUNED`` has failed or was killed.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            folder = self.sweep_dir / str(trial.number)
            value = read_results(folder)["validation"] if (folder / DONE).exists() else None
            if value is None:
                state = TrialState.PRUNED if (folder / PRUNED).exists() else TrialState.FAIL
                self._study.tell(trial.number, state=state)
            else:
                self._study.tell(trial.number, value)
        self._write_table()

    def finished(self) -> int:
        """Number of trials that ran to their end or were pruned."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def _write_table(self) -> None:
        rows = [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "validation": trial.value,
                "epochs": trial.last_step,
                **trial.params,
                "overrides": shlex.join(overrides_of(self.overrides | trial.params)),
            }
            for trial in self._study.get_trials(deepcopy=False)
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, ["trial", "state", "validation", "epochs", *self.space, "overrides"])
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.sweep_dir / TRIALS, text.getvalue())


def quiet() -> None:
    """Shows only warnings of Optuna. Only a command may call it: it changes the whole process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def report(sweep_dir: Path, number: int, value: float, epochs: int) -> bool:
    """Records the metric of a running trial after some epochs; returns whether it should continue.

    Raises:
        InputError: if there is no such trial.
        RunEnded: if the search was killed and restarted, which has ended the trial.
    """
    path = sweep_dir / STUDY
    if not path.exists():
        raise InputError(f"trial={number} is for hydra/sweeper=optuna to set: there is no {path}.")
    storage = _storage(sweep_dir)
    study = optuna.load_study(storage=storage, study_name=_NAME, sampler=RandomSampler())
    study.pruner = _pruner(**study.user_attrs[_PRUNING])
    try:
        study_id = storage.get_study_id_from_name(_NAME)
        trial = Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))
        trial.report(value, epochs)
    except KeyError as error:
        raise InputError(f"{path} has no trial {number}; leave trial to hydra/sweeper=optuna.") from error
    except RuntimeError as error:  # Optuna refuses to change a trial that has ended
        raise RunEnded(f"the search in {sweep_dir} was begun again without this trial.") from error
    return not trial.should_prune()


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Values by key as arguments of the command; None stands for a key without a value (``~key``)."""
    return [key if value is None else f"{key}={value}" for key, value in values.items()]


def _storage(sweep_dir: Path) -> JournalStorage:
    sweep_dir.mkdir(parents=True, exist_ok=True)
    path = sweep_dir / STUDY
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:  # raised for damaged lines
        raise InputError(f"{path} cannot be read ({error}); give another hydra.sweep.dir.") from error


def _require_whole(path: Path) -> None:
    """Rejects a journal that ends inside a line: Optuna reads it, but damages it by appending the next line."""
    if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
        raise InputError(
            f"{path} ends inside a line that was not written completely; remove that line to repeat its trial, or "
            "give another hydra.sweep.dir."
        )


def _pruner(prune: bool, startup_trials: int, warmup_epochs: int) -> BasePruner:
    return MedianPruner(startup_trials, warmup_epochs) if prune else NopPruner()


def _shown(key: str, overrides: Mapping[str, str | None]) -> str:
    """An override as it was given, or ``no KEY`` if it was not."""
    return overrides_of({key: overrides[key]})[0] if key in overrides else f"no {key}"
