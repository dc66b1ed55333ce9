"""File locks between processes, with a message if the wait is long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from brcd_lightning.distributed.processes import print_rank_zero
from brcd_lightning.errors import InputError

PATIENCE_S = 5.0
"""Seconds of waiting before a message is printed."""


@contextmanager
def locked(path: Path, doing: str, give_up_s: float | None = None) -> Iterator[None]:
    """Holds a file lock; a long wait is reported, since the process that holds the lock may never end.

    Args:
        path: path of the lock file.
        doing: action of the process that holds the lock, for the message, such as ``trains the same teacher``.
        give_up_s: seconds of waiting before an error; None waits forever.

    Raises:
        InputError: if another process still holds the lock after `give_up_s`.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        print_rank_zero(f"Waiting for another process that {doing} and holds {path}.")
        try:
            lock.acquire(timeout=-1 if give_up_s is None else max(0.0, give_up_s - PATIENCE_S))
        except Timeout:
            raise InputError(f"another process {doing} and holds {path}; wait until it ends.") from None
    try:
        yield
    finally:
        lock.release()
