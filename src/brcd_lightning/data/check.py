"""The former name of ``brcd check-data``, kept for one release."""

from brcd_lightning.cli.main import run_old_form

if __name__ == "__main__":
    run_old_form("brcd_lightning.data.check", "check-data")
