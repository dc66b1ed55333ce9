"""Where Hydra looks for launchers: ``hydra/launcher=local`` and ``hydra/launcher=slurm``."""

from brcd_lightning import launcher, slurm


class LocalLauncher(launcher.ProcessLauncher):
    """See `launcher.ProcessLauncher`."""


class SlurmLauncher(slurm.SlurmLauncher):
    """See `slurm.SlurmLauncher`."""
