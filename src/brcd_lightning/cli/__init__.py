"""The command line: ``brcd COMMAND``."""
