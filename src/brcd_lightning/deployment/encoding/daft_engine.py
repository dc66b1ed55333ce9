"""Engine that encodes parts in worker processes started by Daft: on this machine, or on several through Ray.

The unit of work is a part. A worker loads the encoder once, receives one part at a time, and writes its file itself.
An interrupted encoding therefore loses only the parts in progress, and no codes pass through the waiting process.
Batches hold the same images as with threads, so the files are identical.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import daft

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.part_encoder import Part, PartEncoder, PartWork
from brcd_lightning.errors import InputError, RunEnded
from brcd_lightning.options import PositiveInt, require_option

Loader: TypeAlias = Callable[[], HashEncoder]
"""Loads the encoder; picklable, so that it can be sent to another process."""
_SEPARATOR, _SHOWN = ": ", 300


class PartWriter:
    """A worker, which keeps the encoder after its first part.

    Args:
        load: loads the encoder; called in the worker process.
        work: settings shared by all parts.
        threads: of this worker.
    """

    def __init__(self, load: Loader, work: PartWork, threads: int) -> None:
        self._load, self._work, self._threads = load, work, threads
        self._encoder: PartEncoder | None = None

    def write(self, number: int, names: list[str]) -> str:
        """Encodes a part and writes its file. Returns the type and message of an error, or an empty string.

        Args:
            number: of the part.
            names: of its images.
        """
        try:
            if self._encoder is None:
                self._encoder = self._loaded()
            self._encoder.write(self._work, Part(number, names))
        except Exception as error:  # of any type: the waiting process reports it
            return f"{type(error).__name__}{_SEPARATOR}{_one_line(error)}"
        return ""

    def _loaded(self) -> PartEncoder:
        encoder = self._load()
        if encoder.fingerprint != self._work.encoder:
            raise InputError(
                f"a worker has loaded encoder {encoder.fingerprint} instead of {self._work.encoder}; all machines must "
                "see the same files."
            )
        return PartEncoder(encoder, self._threads)


class DaftEngine:
    """Engine of worker processes on Daft's runner: on this machine, or on a Ray cluster with ``DAFT_RUNNER=ray``.

    Args:
        load: loads the encoder in each worker.
        workers: number of processes; None for one per processor of this machine.
        threads: of each worker; None for one.

    Raises:
        InputError: for an invalid value.
    """

    def __init__(self, load: Loader, workers: int | None = None, threads: int | None = None) -> None:
        for name, value in (("--workers", workers), ("--threads", threads)):
            require_option(name, value, PositiveInt | None)
        self._load, self._threads = load, threads or 1
        self._workers = workers or len(os.sched_getaffinity(0))

    def __call__(self, work: PartWork, parts: Sequence[Part], advance: Callable[[int], None]) -> None:
        """Encodes the parts, assigning each to the next free worker.

        Raises:
            InputError: if Daft's runner does not start, or a worker reports an error that the user can fix.
            RunEnded: if a worker failed or was lost. Parts already written are kept.
        """
        _start_runner()
        writer = daft.cls(PartWriter, use_process=True, max_concurrency=min(self._workers, len(parts)))
        columns = {
            "number": [part.number for part in parts],
            "names": [list(part.names) for part in parts],
            "images": [len(part.names) for part in parts],
        }
        with _quiet(), daft.execution_config_ctx(maintain_order=False):  # or fast workers would wait for slow ones
            table = daft.from_pydict(columns).into_batches(1)
            write = writer(self._load, work, self._threads).write(table["number"], table["names"])
            told = table.select("images", write.alias("error"))
            try:
                for row in told.iter_rows(results_buffer_size=1):
                    _require_written(row["error"])
                    advance(row["images"])
            except Exception as error:  # Daft raises types of its own and passes on those of Ray
                if isinstance(error, InputError):
                    raise
                raise _lost(_one_line(error)) from error


def _start_runner() -> None:
    """Starts or connects to the runner selected by the environment."""
    try:
        daft.get_or_create_runner()
    except Exception as error:  # of Daft, of Ray, or of an import
        missing = isinstance(error, ImportError)
        remedy = "install Ray: pip install 'brcd_lightning[ray]'" if missing else "see DAFT_RUNNER and RAY_ADDRESS"
        raise InputError(f"Daft's runner does not start ({_one_line(error)}); {remedy}.") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_SHOWN].rstrip(".") or type(error).__name__


def _require_written(error: str) -> None:
    """Raises the error that a worker reported for a part."""
    kind, _, message = error.partition(_SEPARATOR)
    if kind == InputError.__name__:
        raise InputError(f"{message}.")
    if error:
        raise _lost(error)


def _lost(reason: str) -> RunEnded:
    return RunEnded(f"a worker of Daft ended or failed ({reason}); the same command continues.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Daft's own errors and progress, which the waiting process reports in one line."""
    logger, name = logging.getLogger("daft_local_execution"), "DAFT_PROGRESS_BAR"
    level, shown = logger.level, os.environ.get(name)
    logger.setLevel(logging.CRITICAL)
    os.environ[name] = "0"
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown is None:
            del os.environ[name]
        else:
            os.environ[name] = shown
