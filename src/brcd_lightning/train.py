"""The command ``python -m brcd_lightning.train [overrides]``, the same as ``brcd train [overrides]``."""

from brcd_lightning.cli.main import train as main

if __name__ == "__main__":
    main()
