"""The command ``python -m brcd_lightning.train [overrides]``; light, so that help and typos answer at once."""

from __future__ import annotations

import os
import sys

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from brcd_lightning.config import CONFIG_DIR, CONFIG_NAME, check, explain
from brcd_lightning.errors import InputError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
_refusals: list[str] = []


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=CONFIG_NAME)
def _job(cfg: DictConfig) -> float | None:
    try:
        check(cfg)
        from brcd_lightning.run import run  # torch and lightning load only for a configuration that holds

        return run(cfg)
    except InputError as error:
        # Kept instead of raised: the other jobs of a multirun still run, and Hydra adds no report of its own.
        _refuse(str(error))
        return None


def _refuse(message: str) -> None:
    _refusals.append(message)
    sys.stderr.write(f"error: {message}\n")


def main() -> None:
    """Composes the configuration and runs it; a user's mistake ends in one line and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # composition errors come through to be explained here
    try:
        _job()
    except (CompactHydraException, OmegaConfBaseException) as error:
        _refuse(explain(error, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the run has no DONE file\n")
        sys.exit(EXIT_INTERRUPTED)
    if _refusals:
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
