"""Bounds of a server: bytes of an upload, and requests that are under way."""

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
"""PIL warns of larger images, and refuses those twice as large."""
_IN_MEMORY = 1 << 20
"""Bytes of an upload that are kept in memory; the rest lies in a temporary file."""
_FORM_BYTES = 1 << 14
"""Bytes of a form beside its file."""


@checked()
@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Args:
        max_upload_mb: megabytes of an image file.
        max_megapixels: of an image.
        threads: requests that are worked at together.
        waiting: requests that wait for a thread, and uploads that arrive at a time.
        receive_s: seconds in which an upload must arrive.
        work_s: seconds in which a request must be answered.

    Raises:
        InputError: for other numbers than positive ones, or images that PIL refuses.
    """

    max_upload_mb: PositiveInt = 20
    max_megapixels: Annotated[int, Interval(ge=1, le=MOST_MEGAPIXELS)] = 50
    threads: PositiveInt = 1
    waiting: PositiveInt = 32
    receive_s: Positive = 60
    work_s: Positive = 20

    @property
    def max_bytes(self) -> int:
        """Bytes of an image file."""
        return self.max_upload_mb * 1_000_000

    @property
    def max_pixels(self) -> int:
        """Pixels of an image."""
        return self.max_megapixels * 1_000_000


def busy() -> HTTPException:
    """The refusal of a server that has enough to do."""
    return HTTPException(503, "The server is busy; try again in a moment.", headers={"Retry-After": "1"})


class Workers:
    """Threads that do the work of requests; the queue in front of them is bounded.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = BoundedSemaphore(limits.threads + limits.waiting)
        self._uploads = BoundedSemaphore(limits.waiting)
        # Requests share the processor; the threads of one would wait for those of another.
        self._pool = ThreadPoolExecutor(limits.threads, "worker", initializer=partial(use_threads, 1))

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`, made by one of the threads.

        Args:
            work: called without arguments.

        Raises:
            HTTPException: if too many wait already, or it takes too long (503).
        """
        if not self._places.acquire(blocking=False):
            raise busy()
        future = self._pool.submit(work)
        # Nobody can end a thread: what takes too long keeps its place until it is done.
        future.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.work_s)
        except TimeoutError as error:
            raise HTTPException(503, f"This took longer than {self._limits.work_s:g} seconds.") from error

    @asynccontextmanager
    async def uploaded(self, request: Request) -> AsyncIterator[IO[bytes]]:
        """The image file that a request brings, as its body or as a file of a form.

        Args:
            request: whose body nobody has read yet.

        Raises:
            HTTPException: if there is none (400), it does not arrive (408), is too large (413), or too many uploads
                are under way (503).
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
        """Forgets what waits; what runs ends by itself."""
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
    """The same request, whose body ends with a refusal where it is too large."""
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
