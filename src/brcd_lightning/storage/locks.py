"""Locks that processes of one file system wait for, and say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from brcd_lightning.distributed.processes import print_rank_zero
from brcd_lightning.errors import InputError

PATIENCE_S = 5.0
"""Seconds of waiting without a word."""


@contextmanager
def locked(path: Path, doing: str, give_up_s: float | None = None) -> Iterator[None]:
    """Holds the lock of a file; a long wait is told, since the process that holds it may never end.

    Args:
        path: of the lock.
        doing: what another process that holds it does, such as ``trains the same teacher``.
        give_up_s: refuses after so many seconds of waiting; None waits for ever.

    Raises:
        InputError: if another process still holds the lock then.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        print_rank_zero(f"Waiting for another process that {doing} and holds {path}.")
        try:
            lock.acquire(timeout=-1 if give_up_s is None else max(0.0, give_up_s - PATIENCE_S))
        except Timeout:
            raise InputError(f"another process {doing} and holds {path}; wait for its end.") from None
    try:
        yield
    finally:
        lock.release()
