"""Where Hydra looks for launchers: ``hydra/launcher=local``."""

from brcd_lightning import launcher


class LocalLauncher(launcher.ProcessLauncher):
    """See `launcher.ProcessLauncher`."""
