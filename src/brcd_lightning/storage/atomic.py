"""Files that are either whole or absent: temporary name in the same folder, flush to disk, rename."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `target` that becomes `target` when the block ends well.

    A failure or a kill leaves an older `target` untouched; the temporary file of a failure is removed. Being in
    the same folder, the rename never crosses a file system.

    Raises:
        OSError: naming `target`, also where a library that writes has its own words for a full disk.
    """
    target, temporary = Path(target), None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=f".tmp{target.suffix}")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp files are private, ordinary files follow the umask
        os.replace(temporary, target)
    except Exception as error:
        number = _os_error(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(target)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _os_error(error: BaseException) -> int | None:
    """The number of the operating system's error behind one, None if there is none."""
    for one in (error, error.__context__):  # torch hides it in the context
        if isinstance(one, OSError):
            return one.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors tells it in its text
    return int(found.group(1)) if found else None


def remove_temporaries(folder: Path) -> None:
    """Removes what processes left in a folder that were killed while writing; nobody else may be writing there."""
    for stale in folder.glob(".*.tmp*"):
        stale.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
