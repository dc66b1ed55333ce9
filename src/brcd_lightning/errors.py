"""Errors that a user can fix, exit codes, and spelling suggestions for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class InputError(ValueError):
    """A wrong option, path, shape, image, checkpoint or config key.

    The message says what is wrong, what was given and what to do. The command line prints it as one line,
    without a traceback; every other exception is a bug and keeps its traceback.

    Examples:
        >>> import torch
        >>> from brcd_lightning import HammingIndex
        >>> HammingIndex.build(torch.zeros(2, 8))
        Traceback (most recent call last):
        brcd_lightning.errors.InputError: codes must hold only -1 and +1; binarise logits with codes.sign first.
    """


class ExitCode(IntEnum):
    """Exit codes of all commands (docs/reliability.md). A multirun returns the highest exit code of its jobs."""

    OK = 0
    """The command succeeded."""
    PRUNED = 0
    """A search stopped a trial because others are better."""
    CRASH = 1
    """A bug, a lost process or a non-finite loss."""
    USER_ERROR = 2
    """A wrong option, path or file, or a folder that cannot be written."""
    TIMED_OUT = 124
    """A job took longer than ``hydra.launcher.timeout_s``."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PREEMPTED = 143
    """SIGTERM; the run can be continued."""


class RunEnded(BaseException):
    """A run that ends early: for an external reason, because of a non-finite loss, or pruned.

    Not an `Exception`, so that error handlers in between do not catch it.

    Args:
        message: one line for the user.
        exit_code: exit code of the process.
    """

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.CRASH) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Returns `` Did you mean 'x'?`` for the closest of `options`, or an empty string when none is close."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def require_choice(name: str, value: object, options: Iterable[str]) -> None:
    """Raises `InputError` unless `value` is one of `options`."""
    options = list(options)
    if value not in options:
        hint = did_you_mean(str(value), options)
        raise InputError(f"{name} must be one of {', '.join(options)}, got {value!r}.{hint}")


def require_positive_int(name: str, value: object) -> None:
    """Raises `InputError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a positive integer, got {value!r}.")


def require_non_negative_int(name: str, value: object) -> None:
    """Raises `InputError` unless `value` is an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{name} must be an integer of at least 0, got {value!r}.")
