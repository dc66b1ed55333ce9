"""Where Hydra looks for ``hydra/launcher=local``, ``hydra/launcher=slurm`` and ``hydra/sweeper=search``."""

from brcd_lightning import launcher, slurm, tuning


class LocalLauncher(launcher.ProcessLauncher):
    """See `launcher.ProcessLauncher`."""


class SlurmLauncher(slurm.SlurmLauncher):
    """See `slurm.SlurmLauncher`."""


class SearchSweeper(tuning.StudySweeper):
    """See `tuning.StudySweeper`."""
