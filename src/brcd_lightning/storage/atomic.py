"""Files that are either whole or absent: temporary name in the same folder, flush to disk, rename."""

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
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-[0-9a-f]{16}\.tmp(\.[^.]*)?")
"""Name of a temporary file, and of the host that writes it."""
_STALE_S = 24 * 3600
"""Age of a temporary file of another host, whose locks this one may not see."""


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `target` that becomes `target` when the block ends well.

    A failure or a kill leaves an older `target` untouched; the temporary file of a failure is removed, that of a kill
    by whoever writes into the folder next (`remove_temporaries`). Being in the same folder, the rename never crosses a
    file system. A `target` that is a symbolic link is replaced; the file that the link names stays as it is.

    Raises:
        OSError: naming `target`, also where a library that writes has its own words for a full disk.
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
    """A new file beside `target`, and the handle that holds its lock for as long as this process lives."""
    while True:
        name = f".{target.name}.{_HOST}-{secrets.token_hex(8)}.tmp{target.suffix}"
        handle = os.open(target.parent / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # not taken for a stale one before it was locked
            return target.parent / name, handle
        os.close(handle)


def _os_error(error: BaseException) -> int | None:
    """The number of the operating system's error behind one, None if there is none."""
    for one in (error, error.__context__):  # torch hides it in the context
        if isinstance(one, OSError):
            return one.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors tells it in its text
    return int(found.group(1)) if found else None


def remove_temporaries(folder: Path) -> None:
    """Removes the temporary files that processes left in a folder which were killed while writing.

    Files of living processes stay: each holds the lock of what it writes. Those of another host go when they are a day
    old, since its locks may not be seen here.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if named := _TEMPORARY.fullmatch(entry.name):
                with suppress(OSError):  # gone meanwhile, of another user, or locked
                    _remove_stale(entry.path, _STALE_S if named[1] != _HOST else 0)


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
    """Folder for what can be computed again: ``$XDG_CACHE_HOME/brcd_lightning``, usually below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brcd_lightning"


def sha256_of(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def source_commit() -> str | None:
    """The git commit of the source tree (with ``-dirty`` for local changes), None outside a checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():  # an installed package may lie inside somebody else's repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
