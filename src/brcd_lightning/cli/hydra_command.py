"""Parsing for the small commands that read the training configuration; `train` uses Hydra's own main instead."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from brcd_lightning.cli.command_parser import CommandParser
from brcd_lightning.config import CONFIG_NAME, compose_config
from brcd_lightning.storage.renamed_options import current_overrides


def config_parser(command: str, description: str, example: str) -> CommandParser:
    """The arguments of a command that reads the configuration.

    Args:
        command: name of the command.
        description: one sentence for ``--help``.
        example: arguments for ``--help``.
    """
    parser = CommandParser(
        prog=f"brcd {command}",
        description=f"{description} For example: brcd {command} {example}",
        epilog=f"brcd {command} --options prints every KEY and its VALUE.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="an option, or the choice of a group")
    parser.add_argument("--options", action="store_true", help="print the composed options and exit")
    return parser


def read_config(arguments: Sequence[str], parser: CommandParser, config_name: str = CONFIG_NAME) -> DictConfig | None:
    """Composes the configuration of a command; ``--help`` prints a short text and exits.

    Args:
        arguments: ``--options``, or Hydra overrides.
        parser: parser from `config_parser`.
        config_name: name of the primary configuration.

    Returns:
        The configuration; None if ``--options`` printed it, which leaves nothing to do.

    Raises:
        InputError: if the configuration does not compose.
    """
    given = parser.parse_intermixed_args(arguments)
    cfg = compose_config(current_overrides(given.overrides), config_name)
    if not given.options:
        return cfg
    sys.stdout.write(OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])))
    return None
