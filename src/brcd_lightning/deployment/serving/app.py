"""The ASGI application: routes, their handlers, and the headers of all responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files as package_files
from typing import Annotated, Final

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brcd_lightning import __version__
from brcd_lightning.deployment.serving.answers import Answer, Searcher, Wanted
from brcd_lightning.deployment.serving.limits import Limits, Workers
from brcd_lightning.deployment.serving.pictures import ImageFiles, Picture, decode

PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
"""File of the page and media type, by URL path."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response."""
UPLOAD: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""OpenAPI description of the body of a search."""
REFUSALS: Final = {
    400: "No image was sent, or the Host header is not allowed.",
    404: "No such image in the index, or its file is missing.",
    408: "The upload did not arrive in time.",
    413: "Too many bytes or too many pixels.",
    415: "The file is not an image of a known format, or is damaged.",
    422: "Invalid option.",
    503: "Busy, or the work took too long.",
}
"""Error responses. The body of each is ``{"detail": "one sentence"}``."""

ImageId = Annotated[int, Path(ge=0, lt=2**63, description="Id of an image.")]


class Refusal(BaseModel):
    """Body of an error response."""

    detail: str


class Health(BaseModel):
    """State of the server."""

    status: str
    images: int
    bits: int
    paradigms: list[str]
    """Of each index."""
    max_upload_mb: int
    max_megapixels: int


def make_app(
    searcher: Searcher, files: ImageFiles, limits: Limits | None = None, allowed_hosts: Sequence[str] = ("*",)
) -> FastAPI:
    """Builds the server as an ASGI application.

    Args:
        searcher: answers queries.
        files: image files of the index.
        limits: of the server.
        allowed_hosts: accepted names in the Host header, which protects against DNS rebinding.
    """
    service = _Service(searcher, files, limits or Limits())
    # Without the pages of Swagger and ReDoc, which load scripts from other hosts.
    app = FastAPI(
        title="brcd_lightning",
        summary="Search for images in an index.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=service.lifespan,
        responses={code: {"description": told, "model": Refusal} for code, told in REFUSALS.items()},
    )
    app.add_api_route("/search", service.search, methods=["POST"], openapi_extra=UPLOAD, summary="Search for an image")
    app.add_api_route("/similar/{number}", service.similar, summary="Search for an image of the index")
    plain = {"response_class": Response, "responses": {200: {"content": {"image/*": {}}}}}
    app.add_api_route("/images/{number}", service.image, summary="An image of the index", **plain)  # type: ignore[arg-type]  # one type for all values
    app.add_api_route("/thumbnails/{number}", service.thumbnail, summary="Thumbnail of an image of the index", **plain)  # type: ignore[arg-type]  # as above
    app.add_api_route("/healthz", service.health, summary="State of the server")
    for address, (name, media_type) in PAGE.items():
        app.add_api_route(address, _page(name, media_type), include_in_schema=False, response_class=Response)
    app.add_exception_handler(RequestValidationError, _wrong_option)
    app.add_exception_handler(ClientDisconnect, _nobody)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts), www_redirect=False)
    app.add_middleware(_WithHeaders)
    return app


class _Service:
    """Request handlers."""

    def __init__(self, searcher: Searcher, files: ImageFiles, limits: Limits) -> None:
        self._searcher, self._files, self._limits = searcher, files, limits
        self._workers = Workers(limits)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        yield
        self._workers.close()

    async def search(self, request: Request, wanted: Annotated[Wanted, Query()]) -> Answer:
        """Nearest images of an uploaded image, sent as the body or as a file of a form."""
        async with self._workers.uploaded(request) as file:
            read = partial(decode, file, self._limits.max_pixels)
            return await self._workers.run(partial(self._searcher.answer, read, wanted))

    async def similar(self, number: ImageId, wanted: Annotated[Wanted, Query()]) -> Answer:
        """Nearest images of an image of the index, whose file is read and encoded as an upload would be."""
        read = partial(self._files.pixels, number)
        return await self._workers.run(partial(self._searcher.answer, read, wanted))

    async def image(self, number: ImageId, request: Request) -> Response:
        """An image of the index."""
        return await self._picture(self._files.picture, number, request)

    async def thumbnail(self, number: ImageId, request: Request) -> Response:
        """An image of the index as a small JPEG."""
        return await self._picture(self._files.thumbnail, number, request)

    async def _picture(self, make: Callable[[int], Picture], number: int, request: Request) -> Response:
        tag = f'"{self._files.stamp(number)}"'
        # Browsers must revalidate their copy: another index may be served at this address later.
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        picture = await self._workers.run(partial(make, number))
        return Response(picture.content, media_type=picture.media_type, headers=headers)

    async def health(self) -> Health:
        """State of the server and size of its index."""
        return Health(
            status="ok",
            images=len(self._searcher.indexes[0]),
            bits=self._searcher.encoder.bits,
            paradigms=self._searcher.paradigms,
            max_upload_mb=self._limits.max_upload_mb,
            max_megapixels=self._limits.max_megapixels,
        )


def _page(name: str, media_type: str) -> Callable[[], Response]:
    content = package_files("brcd_lightning.deployment.serving").joinpath("page", name).read_bytes()

    def page() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return page


async def _wrong_option(_: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": ["request"], "msg": str(error)}
    told = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), "request")
    return JSONResponse({"detail": f"{told}: {first['msg']}."}, status_code=422)


async def _nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # the client has disconnected and will not read it


class _WithHeaders:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
