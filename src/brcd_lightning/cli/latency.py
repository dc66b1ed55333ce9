"""The command ``brcd latency``: times of encoding and searching (Table 3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

from brcd_lightning.cli.command_parser import CommandParser
from brcd_lightning.cli.hydra_command import config_parser, read_config
from brcd_lightning.errors import ExitCode


def main(arguments: Sequence[str]) -> int:
    """Runs the configured measurements.

    Args:
        arguments: Hydra overrides.

    Raises:
        InputError: for a wrong option.
    """
    cfg = read_config(arguments, parser(), config_name="latency")
    if cfg is not None:
        from brcd_lightning.cli.latency_measurement import measure  # loads torch only for a valid configuration

        measure(cfg)
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd latency``."""
    return config_parser(
        "latency",
        description="Measures the time to encode images and to search codes, and writes OUTPUT_DIR/latency.json.",
        example="latency.backbones=[resnet18,mobilenet_v2] dataset=cifar10",
    )
