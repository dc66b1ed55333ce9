"""The former name of ``brcd report``, kept for one release."""

from brcd_lightning.cli.main import run_old_form

if __name__ == "__main__":
    run_old_form("brcd_lightning.report", "report")
