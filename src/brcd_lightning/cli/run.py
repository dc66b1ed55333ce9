"""Exit of every command: the only place where errors become a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from brcd_lightning.deployment.databases.addresses import without_passwords
from brcd_lightning.errors import ExitCode, InputError, RunEnded


def exit_code_of(action: Callable[[], int]) -> int:
    """Runs a command and returns its exit code; an error is reported by `report_error`.

    Args:
        action: runs the command and returns its exit code.
    """
    try:
        return action()
    except (Exception, KeyboardInterrupt, RunEnded) as error:
        return report_error(error)


def report_error(error: BaseException) -> int:
    """Writes an error to stderr and returns its exit code.

    An `InputError`, a `RunEnded` and an interrupt are reported in one line. Any other error is a bug and keeps its
    traceback.
    """
    if isinstance(error, RunEnded):
        sys.stderr.write(f"{'error' if error.exit_code else 'ended early'}: {_printable(str(error))}\n")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write(f"{str(error) or 'interrupted'}\n")
        return ExitCode.INTERRUPTED
    if isinstance(error, InputError):
        message = str(error)
        if "Original Traceback" in message:  # from a loader worker: torch puts its message last
            message = message.rpartition(f"{InputError.__name__}: ")[2].strip()
        sys.stderr.write(f"error: {_printable(without_passwords(message))}\n")  # it may quote a database address
        return ExitCode.USER_ERROR
    traceback.print_exception(error)
    return ExitCode.CRASH


def _printable(text: str) -> str:
    """Escapes a message to one line: file names may contain line breaks, terminal control codes and invalid text."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def finish(code: int) -> NoReturn:
    """Ends the process with an exit code; a success becomes `ExitCode.CRASH` if the output cannot be written."""
    if code == ExitCode.INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C during the exit would print tracebacks
    try:
        sys.stdout.flush()
    except OSError:  # the reader has left, or the disk is full
        code = code or ExitCode.CRASH
        # The interpreter flushes again at exit, and would change the exit code to 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(int(code))
