"""The command ``brcd COMMAND``: all commands and their modules."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from brcd_lightning import __version__
from brcd_lightning.cli.command_parser import CommandParser
from brcd_lightning.cli.run import exit_code_of, finish
from brcd_lightning.errors import ExitCode, InputError, did_you_mean


class Command(NamedTuple):
    """A command of ``brcd``."""

    module: str
    """Module with a function ``main(arguments)``. It is imported when the command runs."""
    help: str
    """One line for ``brcd --help``."""


COMMANDS = {
    "train": Command("brcd_lightning.cli.train", "train a teacher, distil it into a student, test both"),
    "encode": Command("brcd_lightning.cli.encode", "encode images with a trained model, as Parquet"),
    "index": Command("brcd_lightning.cli.index", "encode images and index their codes"),
    "add": Command("brcd_lightning.cli.add", "add images to an index"),
    "remove": Command("brcd_lightning.cli.remove", "take images out of an index"),
    "search": Command("brcd_lightning.cli.search", "print the nearest images of an index"),
    "push": Command("brcd_lightning.cli.push", "write codes into a database: PostgreSQL or LanceDB"),
    "serve": Command("brcd_lightning.cli.serve", "search an index in the browser, or over HTTP"),
    "dedup": Command("brcd_lightning.cli.dedup", "print groups of near-duplicates in an index"),
    "verify": Command("brcd_lightning.cli.verify", "measure recall and time of an index"),
    "export": Command("brcd_lightning.cli.export", "write a trained model as ONNX, or as a page that searches"),
    "report": Command("brcd_lightning.cli.report", "write the tables and figures of finished runs"),
    "collect": Command("brcd_lightning.cli.collect", "print the table of a sweep, even while it runs"),
    "latency": Command("brcd_lightning.cli.latency", "measure the time of encoding and of searching"),
    "check-data": Command("brcd_lightning.cli.check_data", "check that a data set is present, and summarise it"),
    "preview-data": Command("brcd_lightning.cli.preview_data", "draw training images and their augmented views"),
}


def main() -> NoReturn:
    """Runs the command that ``sys.argv`` names, and exits."""
    finish(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs a command.

    Args:
        arguments: name of the command, then its own arguments.

    Returns:
        The exit code, see `errors.ExitCode`.
    """
    return exit_code_of(lambda: _call(*_parse(arguments)))


def train() -> NoReturn:
    """Runs ``brcd train`` with all arguments of ``sys.argv``, and exits."""
    finish(exit_code_of(lambda: _call("train", sys.argv[1:])))


def run_old_form(module: str, command: str) -> NoReturn:
    """Runs a command under its former name ``python -m MODULE``, and exits.

    Args:
        module: the former name.
        command: current name of the command.
    """
    sys.stderr.write(f"python -m {module} is deprecated and will be removed; use: brcd {command}\n")
    finish(exit_code_of(lambda: _call(command, sys.argv[1:])))


def _call(command: str, arguments: Sequence[str]) -> int:
    code: int = import_module(COMMANDS[command].module).main(arguments)
    return code


def _parse(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the command, and its arguments."""
    parser = CommandParser(
        prog="brcd COMMAND",
        usage="brcd COMMAND [ARGUMENT ...]",
        description="Unsupervised image hashing with knowledge distillation.",
        epilog="\n".join(
            [
                "commands (brcd COMMAND --help explains one):",
                *(f"  {name:14}{command.help}" for name, command in COMMANDS.items()),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"brcd_lightning {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help(sys.stderr)
        sys.exit(ExitCode.USER_ERROR)
    if given.command not in COMMANDS:
        hint = did_you_mean(given.command, COMMANDS)
        raise InputError(f"there is no command {given.command!r}.{hint} brcd --help lists all commands.")
    return given.command, given.arguments
