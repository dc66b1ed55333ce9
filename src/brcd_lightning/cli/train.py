"""The command ``brcd train [overrides]``; imports little, so that help and typos are answered at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]  # omegaconf brings it, without its stubs

from brcd_lightning.cli.config_folders import require_short_files
from brcd_lightning.cli.loading import load_libraries
from brcd_lightning.cli.run import report_error
from brcd_lightning.config import CONFIG_DIR, CONFIG_NAME, check, explain, grid_coordinates
from brcd_lightning.errors import ExitCode, InputError, RunEnded
from brcd_lightning.storage.renamed_options import current_overrides


class TrainTask:
    """Runs the jobs of one command; Hydra and its launchers call it with the configuration of each.

    Errors of a job are reported and kept in `exit_codes` instead of raised, so that the other jobs of a multirun still
    run and Hydra adds no report of its own.

    Args:
        argv: the process's ``sys.argv``. Hydra reads its overrides from ``sys.argv`` without the name of the command;
            Lightning starts further processes with the full list.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.exit_codes: list[int] = []
        """Exit codes of the jobs that failed. Launchers with processes of their own append to it."""

    def __call__(self, cfg: DictConfig) -> float | None:
        """Runs one job.

        Returns:
            The watched test metric; None if there is none or the job failed.
        """
        sys.argv = list(self.argv)
        try:
            check(cfg)
            grid_coordinates(cfg)
            # Loads torch and lightning only for a valid configuration.
            load_libraries()
            from brcd_lightning.cli.libraries import configure_libraries
            from brcd_lightning.experiment.run import run

            configure_libraries()
            return run(cfg)
        except (Exception, RunEnded) as error:
            code = report_error(error)
        if code == ExitCode.PREEMPTED:  # skips the remaining jobs
            sys.exit(code)
        self.exit_codes.append(code)
        return None


def main(arguments: Sequence[str]) -> int:
    """Composes the configuration and runs it.

    Args:
        arguments: options of Hydra and overrides.

    Returns:
        The highest exit code of the jobs.

    Raises:
        InputError: for a configuration file or an option of Hydra that is not allowed.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # composition errors propagate, to be explained here
    task = TrainTask(sys.argv)
    arguments = current_overrides(arguments)
    if any(argument.startswith("--experimental-rerun") for argument in arguments):
        raise InputError("--experimental-rerun runs whatever code a pickle holds; repeat the command instead.")
    require_short_files(arguments)
    sys.argv = [sys.argv[0], *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=CONFIG_NAME)(task)()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the run has no DONE file") from None
    except RuntimeError as error:
        if not str(error).startswith("Invalid plugin"):  # raised by Hydra for an invalid launcher
            raise
        task.exit_codes.append(report_error(InputError(f"{error}; choose hydra/launcher and hydra/sweeper by name.")))
    except (CompactHydraException, OmegaConfBaseException, OSError, ValueError, YAMLError) as error:
        # Errors outside the task come from Hydra: a configuration that does not compose, a folder it cannot create.
        task.exit_codes.append(report_error(InputError(explain(error, arguments))))
    return max(task.exit_codes, default=ExitCode.OK)
