"""The former name of ``brcd preview-data``, kept for one release."""

from brcd_lightning.cli.main import run_old_form

if __name__ == "__main__":
    run_old_form("brcd_lightning.data.preview", "preview-data")
