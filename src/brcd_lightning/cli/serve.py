"""The command ``brcd serve INDEX [INDEX2]``: searches an index from a page in the browser, or over HTTP."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from brcd_lightning.cli.command_parser import THREADS, CommandParser, any_path, integer
from brcd_lightning.cli.encoding_arguments import add_onnx_argument, by_onnx
from brcd_lightning.errors import ExitCode, InputError, RunEnded

_CONNECTIONS = 128
_SERVER: dict[str, Any] = {
    "ws": "none",
    "log_level": "warning",
    "proxy_headers": False,
    "server_header": False,
    "limit_concurrency": _CONNECTIONS,
    "timeout_graceful_shutdown": 5,  # seconds
}


def main(arguments: Sequence[str]) -> int:
    """Serves an index until Ctrl-C or SIGTERM.

    Args:
        arguments: see ``brcd serve --help``.

    Raises:
        InputError: for a folder that is not an index, or an address that is not available.
    """
    given = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    try:
        import uvicorn  # these take long to load, which --help does not need

        from brcd_lightning.deployment.serving.app import make_app
    except ImportError as error:
        raise InputError(
            f"brcd serve needs {error.name}; install it with: pip install 'brcd_lightning[serve]'"
        ) from error
    from brcd_lightning.deployment.image_index.image_index import ImageIndex
    from brcd_lightning.deployment.serving.answers import Searcher
    from brcd_lightning.deployment.serving.limits import Limits
    from brcd_lightning.deployment.serving.pictures import ImageFiles

    limits = Limits(given.max_upload_mb, given.max_megapixels, given.threads)
    listening = _listen(given.host, given.port)
    indexes = [ImageIndex.open(folder) for folder in (given.index, given.second) if folder is not None]
    root = indexes[0].root if given.root is None else given.root
    if not root.is_dir():
        raise InputError(f"the images of {given.index} were in {root}, which is gone; give their folder by --root.")
    searcher = Searcher(indexes, by_onnx(indexes[0].query_encoder(), given.onnx).warm_up())
    files = ImageFiles(root, indexes[0].images, limits.max_bytes, limits.max_pixels)
    app = make_app(searcher, files, limits, _allowed_hosts(given.host))
    sys.stdout.write(
        f"{len(indexes[0]):,} images, {searcher.encoder.bits} bits, {' and '.join(searcher.paradigms)}: "
        f"{_address(listening)} (Ctrl-C ends it)\n"
    )
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, **_SERVER)).run([listening])
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd serve``."""
    parser = CommandParser(
        prog="brcd serve",
        description="Serves an index: a page in the browser, and JSON, see docs/serve.md. Ctrl-C ends it.",
    )
    parser.add_argument("index", type=any_path, metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "second",
        type=any_path,
        nargs="?",
        metavar="INDEX2",
        help="index of the same images to show beside it, such as an ASHP index",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=integer(0, 65535), default=8000, help="port; 0 takes a free one (default: 8000)")
    parser.add_argument("--threads", type=THREADS, default=1, help="requests processed concurrently (default: 1)")
    parser.add_argument("--root", type=any_path, metavar="DIR", help="folder of the images, if they have moved")
    add_onnx_argument(parser)
    parser.add_argument(
        "--max-upload-mb", type=integer(1, 4096), default=20, metavar="MB", help="largest uploaded file (default: 20)"
    )
    parser.add_argument(
        "--max-megapixels", type=integer(1, 10_000), default=50, metavar="MP", help="largest image (default: 50)"
    )
    return parser


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except OSError as error:
        reason = str(error.strerror).split(" (")[0]  # without the address, which the message names already
        raise InputError(f"cannot listen at {host}, port {port}: {reason}; choose another --host or --port.") from error


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allowed_hosts(host: str) -> list[str]:
    """Host names by which pages may call the server; any name if other machines can reach the server."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        sys.stderr.write(f"Anyone who reaches {host} can search this index and see its images.\n")
        return ["*"]
    return ["localhost", "127.0.0.1", "::1", "[::1]", host]


def _end(*_: object) -> None:
    raise RunEnded("ended by SIGTERM.", ExitCode.PREEMPTED)
