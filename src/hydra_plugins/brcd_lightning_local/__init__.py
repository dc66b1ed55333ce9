"""The plugins that Hydra finds for ``hydra/launcher=local``, ``hydra/launcher=slurm`` and ``hydra/sweeper=optuna``."""

from brcd_lightning.experiment.sweeps import local_launcher, optuna_sweeper, slurm_launcher


class LocalLauncher(local_launcher.ProcessLauncher):
    """See `local_launcher.ProcessLauncher`."""


class SlurmLauncher(slurm_launcher.SlurmLauncher):
    """See `slurm_launcher.SlurmLauncher`."""


class OptunaSweeper(optuna_sweeper.StudySweeper):
    """See `optuna_sweeper.StudySweeper`."""
