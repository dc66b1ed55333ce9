"""Atomic file writes: a temporary name in the same folder, a flush to disk, then a rename."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.tmp(\.[^.]*)?")
"""Name of a temporary file, which contains a digest of the host and the number of the process that writes it."""
_STALE_S = 24 * 3600
"""Age in seconds after which a temporary file of another host is removed, since its lock may not be visible here."""


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `target` that is renamed to `target` when the block succeeds.

    A failure or a kill leaves an existing `target` unchanged. After a failure the temporary file is removed; after a
    kill, the next write into the folder removes it (`remove_temporaries`). The rename never crosses file systems,
    because both paths are in the same folder. If `target` is a symbolic link, the link is replaced and the file that it
    points to stays unchanged.

    Raises:
        OSError: naming `target`, also if a library reports a full disk by its own exception.
    """
    target, temporary, handle = Path(target), None, -1
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(target.parent)
        temporary, handle = _locked_temporary(target)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except Exception as error:
        number = _os_error(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(target)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def _locked_temporary(target: Path) -> tuple[Path, int]:
    """Creates a file beside `target`; returns its path and the handle that holds its lock while this process runs."""
    while True:
        name = f".{target.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp{target.suffix}"
        handle = os.open(target.parent / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # minus the umask
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # not removed as stale before it was locked
            return target.parent / name, handle
        os.close(handle)


def _os_error(error: BaseException) -> int | None:
    """The errno of the operating system error that caused `error`; None if there is none."""
    for one in (error, error.__context__):  # torch leaves it in the context
        if isinstance(one, OSError):
            return one.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors gives it in its message
    return int(found.group(1)) if found else None


def remove_temporaries(folder: Path) -> None:
    """Removes the temporary files in a folder that were left by processes killed while writing.

    Files of running processes are kept: the name says which process writes, and each also holds the lock of its file.
    The lock alone does not suffice, because safetensors replaces the file that it is given. Files of another host are
    removed once they are a day old, since neither is visible here.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if named := _TEMPORARY.fullmatch(entry.name):
                here = named[1] == _HOST
                if here and _runs(int(named[2])):
                    continue
                with suppress(OSError):  # already removed, owned by another user, or locked
                    _remove_stale(entry.path, 0 if here else _STALE_S)


def _runs(process: int) -> bool:
    """True for a process of this host; also for one of another user."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove_stale(path: str, least_age_s: float) -> None:
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(handle)
        if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime >= least_age_s:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(handle)


def write_text(target: Path | str, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Folder for results that can be recomputed: ``$XDG_CACHE_HOME/brcd_lightning``, usually below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brcd_lightning"


def sha256_of(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def source_commit() -> str | None:
    """The git commit of the source tree (with ``-dirty`` for local changes); None outside a checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():  # an installed package may lie inside an unrelated repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
