"""The former name of ``brcd report``, kept for one release."""

from importlib import import_module

if __name__ == "__main__":
    # By name, since imports point down and commands are the top floor.
    import_module("brcd_lightning.cli.main").run_old_form("brcd_lightning.report", "report")
