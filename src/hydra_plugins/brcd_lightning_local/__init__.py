"""Where Hydra looks for launchers and sweepers: ``hydra/launcher=local``, ``hydra/sweeper=search``."""

from brcd_lightning import launcher, tuning


class LocalLauncher(launcher.ProcessLauncher):
    """See `launcher.ProcessLauncher`."""


class SearchSweeper(tuning.StudySweeper):
    """See `tuning.StudySweeper`."""
