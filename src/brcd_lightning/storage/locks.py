"""Locks that processes of one file system wait for, and say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from brcd_lightning.distributed.processes import print_rank_zero

PATIENCE_S = 5.0
"""Seconds of waiting without a word."""


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Holds the lock of a file; a long wait is told, since the process that holds it may never end.

    Args:
        path: of the lock.
        doing: what another process that holds it does, such as ``trains the same teacher``.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        print_rank_zero(f"Waiting for another process that {doing} and holds {path}.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
