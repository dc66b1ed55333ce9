"""Limits of a server: upload size, image size, and concurrent requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from tempfile import SpooledTemporaryFile
from threading import BoundedSemaphore
from typing import IO, Annotated, Final, TypeVar

from annotated_types import Interval
from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.types import Message

from brcd_lightning.options import Positive, PositiveInt, checked
from brcd_lightning.search.exact import use_threads

_T = TypeVar("_T")
MOST_MEGAPIXELS: Final = 89
"""PIL warns about larger images and refuses images twice as large."""
_IN_MEMORY = 1 << 20
"""Largest upload kept in memory, in bytes; larger ones go to a temporary file."""
_FORM_BYTES = 1 << 14
"""Bytes allowed for a form in addition to its file."""


@checked()
@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Args:
        max_upload_mb: largest image file in megabytes.
        max_megapixels: largest image in megapixels.
        threads: number of requests processed concurrently.
        waiting: maximum number of requests that wait for a thread, and of concurrent uploads.
        receive_s: time limit for receiving an upload, in seconds.
        work_s: time limit for answering a request, in seconds.

    Raises:
        InputError: for a limit that is not positive, or images larger than PIL accepts.
    """

    max_upload_mb: PositiveInt = 20
    max_megapixels: Annotated[int, Interval(ge=1, le=MOST_MEGAPIXELS)] = 50
    threads: PositiveInt = 1
    waiting: PositiveInt = 32
    receive_s: Positive = 60
    work_s: Positive = 20

    @property
    def max_bytes(self) -> int:
        """Largest image file in bytes."""
        return self.max_upload_mb * 1_000_000

    @property
    def max_pixels(self) -> int:
        """Largest image in pixels."""
        return self.max_megapixels * 1_000_000


def busy() -> HTTPException:
    """Creates the response of an overloaded server (503)."""
    return HTTPException(503, "The server is busy; try again in a moment.", headers={"Retry-After": "1"})


class Workers:
    """Thread pool for requests, with a bounded queue.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = BoundedSemaphore(limits.threads + limits.waiting)
        self._uploads = BoundedSemaphore(limits.waiting)
        # Requests share the processors: torch threads of one request would wait for those of another.
        self._pool = ThreadPoolExecutor(limits.threads, "worker", initializer=partial(use_threads, 1))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Runs `work` in one of the threads and returns its result.

        Args:
            work: called without arguments.

        Raises:
            HTTPException: if the queue is full, or the work exceeds its time limit (503).
        """
        if not self._places.acquire(blocking=False):
            raise busy()
        future = self._pool.submit(work)
        # Threads cannot be cancelled: work beyond its time limit keeps its slot until it finishes.
        future.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.work_s)
        except TimeoutError as error:
            raise HTTPException(503, f"This took longer than {self._limits.work_s:g} seconds.") from error

    @asynccontextmanager
    async def uploaded(self, request: Request) -> AsyncIterator[IO[bytes]]:
        """Receives the image file of a request, sent as its body or as a file of a form.

        Args:
            request: whose body has not been read yet.

        Raises:
            HTTPException: if there is no file (400), it does not arrive in time (408), it is too large (413), or too
                many uploads are in progress (503).
        """
        if not self._uploads.acquire(blocking=False):
            raise busy()
        try:
            async with asyncio.timeout(self._limits.receive_s):
                file = await _receive(request, self._limits)
        except TimeoutError as error:
            raise HTTPException(408, f"No image arrived in {self._limits.receive_s:g} seconds.") from error
        finally:
            self._uploads.release()
        with file:
            yield file

    def close(self) -> None:
        """Cancels queued work; running work finishes on its own."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _receive(request: Request, limits: Limits) -> IO[bytes]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await _body(_bounded(request, limits, limits.max_bytes))
    form = await _bounded(request, limits, limits.max_bytes + _FORM_BYTES).form(max_files=1, max_fields=8)
    file = next((value for value in form.values() if isinstance(value, UploadFile)), None)
    if file is None or not file.size:
        await form.close()
        raise _nothing()
    if file.size > limits.max_bytes:
        await form.close()
        raise _too_large(limits)
    return file.file


async def _body(request: Request) -> IO[bytes]:
    file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    try:
        async for part in request.stream():
            file.write(part)
    except BaseException:
        file.close()
        raise
    if not file.tell():
        file.close()
        raise _nothing()
    file.seek(0)
    return file


def _bounded(request: Request, limits: Limits, most: int) -> Request:
    """The same request, whose body raises status 413 when it exceeds the limit."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > most:
        raise _too_large(limits)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > most:
            raise _too_large(limits)
        return message

    return Request(request.scope, receive)


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(413, f"The file is too large; at most {limits.max_upload_mb} MB are taken.")


def _nothing() -> HTTPException:
    return HTTPException(400, "Send an image, as the body or as a file of a form.")
