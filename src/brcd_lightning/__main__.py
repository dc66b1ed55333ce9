"""The command ``python -m brcd_lightning COMMAND``, the same as ``brcd COMMAND``."""

from brcd_lightning.cli.main import main

if __name__ == "__main__":
    main()
