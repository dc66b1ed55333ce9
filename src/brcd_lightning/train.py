"""The command ``python -m brcd_lightning.train [overrides]``; light, so that help and typos answer at once."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from typing import NoReturn

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from brcd_lightning.config import CONFIG_DIR, CONFIG_NAME, check, explain
from brcd_lightning.errors import EXIT_CRASH, EXIT_PREEMPTED, InputError, RunEnded
from brcd_lightning.launcher import ProcessLauncher
from brcd_lightning.process import end_process
from brcd_lightning.slurm import SlurmLauncher

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130
_exit_codes: list[int] = []


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=CONFIG_NAME)
def _job(cfg: DictConfig) -> float | None:
    try:
        check(cfg)
        gc.disable()  # a million new objects that all stay: looking for garbage among them is a fifth of the loading
        from brcd_lightning.run import run  # torch and lightning load only for a configuration that holds

        gc.enable()
        return run(cfg)
    # Kept instead of raised: the other jobs of a multirun still run, and Hydra adds no report of its own.
    except InputError as error:
        _refuse(str(error))
    except RunEnded as error:
        sys.stderr.write(f"{'error' if error.exit_code else 'ended early'}: {error}\n")
        if error.exit_code == EXIT_PREEMPTED:  # no further job either
            sys.exit(error.exit_code)
        _exit_codes.append(error.exit_code)
    except Exception:
        traceback.print_exc()
        _exit_codes.append(EXIT_CRASH)
    return None


def _refuse(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    _exit_codes.append(EXIT_USER_ERROR)


def main() -> NoReturn:
    """Composes the configuration and runs it as a whole process; a user's mistake ends in one line and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # composition errors come through to be explained here
    try:
        _job()
    except RunEnded as error:
        sys.stderr.write(f"error: {error}\n")
        end_process(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the run has no DONE file\n")
        end_process(EXIT_INTERRUPTED)
    except (CompactHydraException, OmegaConfBaseException, OSError, ValueError) as error:
        # Whatever escapes the job comes from Hydra: a configuration that does not compose, a folder it cannot make.
        _refuse(explain(error, sys.argv[1:]))
    end_process(max([*_exit_codes, *ProcessLauncher.exit_codes, *SlurmLauncher.exit_codes], default=0))


if __name__ == "__main__":
    main()
