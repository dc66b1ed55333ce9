"""The former name of ``brcd report``, kept for one release."""

from importlib import import_module

if __name__ == "__main__":
    # Imported by name, because no module may import the commands, which are the top layer.
    import_module("brcd_lightning.cli.main").run_old_form("brcd_lightning.report", "report")
