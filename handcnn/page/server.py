"""The HTTP server of the pages: which requests are allowed, and how they are answered.

A server has one page, with the scripts and styles that all pages share, and routes: functions that
answer what its scripts ask for.

Only this computer can reach the server, but any web site open in its browser could send requests
to it. So a request is refused if its Host header is not a name of this computer (another name may
point here), or if the browser says that another site sent it. The port may be any, since ssh can
forward another one. No file name is ever taken from a request: all files that can be requested are
read when the server starts.
"""

import errno
import json
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from threading import Thread
from typing import Any, NamedTuple

from waitress.server import create_server
from waitress.wasyncore import close_all

from handcnn.errors import HandcnnError
from handcnn.text import one_line

HOST = "127.0.0.1"
USUAL_PORT = 2828  # used at every start if it is free, so that an open page finds the server again
MAX_PICTURE_BYTES = 10_000_000
# Larger requests are read to their end, up to this limit: many programs wait for the response only
# after they have sent everything.
MAX_REQUEST_BYTES = 10 * MAX_PICTURE_BYTES
THREADS = 4
CLOSING_SECONDS = 1  # that running requests get to finish

THIS_COMPUTER = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "md": "text/plain; charset=utf-8",
}
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]

Environ = dict[str, Any]
Answer = tuple[str, str, bytes]  # status, content type, body
Application = Callable[[Environ, Callable[[str, list[tuple[str, str]]], object]], Iterable[bytes]]


class Route(NamedTuple):
    """How the requests for one address are answered.

    Attributes:
        method: GET or POST.
        answer: returns JSON values, or the bytes of a file, for the query of a GET or the body of a
            POST. It raises a HandcnnError if these cannot be used. Several threads call it
            concurrently.
    """

    method: str
    answer: Callable[[bytes], Any]


class Refusal(Exception):
    """An error response to a request: an HTTP status and a sentence."""

    def __init__(self, status: str, sentence: str, *headers: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


def listen(port: int | None) -> socket.socket:
    """Return a socket that listens on this computer's own address, by default on a free port.

    Raises:
        HandcnnError: the port is in use, or it cannot be used.
    """
    if port is None:
        try:
            return socket.create_server((HOST, USUAL_PORT))
        except OSError:
            return socket.create_server((HOST, 0))  # any free port
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fault = "is used by another program; choose another one, or omit --port"
        else:
            fault = f"cannot be used ({error.strerror}); choose one above 1023"
        raise HandcnnError(f"port {port} {fault}") from None


def serve(listener: socket.socket, page: str, routes: Mapping[str, Route]) -> None:
    """Answer requests until the process is interrupted.

    Args:
        listener: from `listen`.
        page: the name of the HTML file to show at the address /.
        routes: by address, with their leading slash.
    """
    _server(listener, page, routes, {}).run()


@contextmanager
def serving(listener: socket.socket, page: str, routes: Mapping[str, Route]) -> Iterator[None]:
    """Answer requests in other threads until the block is left; arguments as in `serve`."""
    connections: dict[int, Any] = {}
    server = _server(listener, page, routes, connections)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.task_dispatcher.shutdown(timeout=CLOSING_SECONDS)
        logging.getLogger("waitress").setLevel(logging.CRITICAL)  # requests may be cut off now
        # The server's own thread closes its sockets; without any, it ends.
        server.trigger.pull_trigger(lambda: close_all(connections))
        thread.join(CLOSING_SECONDS)


def _server(
    listener: socket.socket, page: str, routes: Mapping[str, Route], connections: dict[int, Any]
) -> Any:
    logging.getLogger("waitress").setLevel(logging.ERROR)  # no warnings when it is busy
    return create_server(
        application(listener.getsockname()[1], page, routes),
        map=connections,
        sockets=[listener],
        threads=THREADS,
        max_request_body_size=MAX_REQUEST_BYTES,
        ident=None,
        log_socket_errors=False,
    )


def application(port: int, page: str, routes: Mapping[str, Route]) -> Application:
    """Return the WSGI application that serves a page on this port; arguments as in `serve`."""
    fixed = {
        f"/{file.name.removesuffix(page)}": (TYPES[suffix], file.read_bytes())
        for file in files("handcnn.page").iterdir()
        if (suffix := file.name.split(".")[-1]) in TYPES and (suffix != "html" or file.name == page)
    }

    def answer(environ: Environ) -> Answer:
        check_sender(environ, port)
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path in fixed:
            check_method(method, "GET", "HEAD")
            return ("200 OK", *fixed[path])
        if path in routes:
            route = routes[path]
            check_method(method, *(("GET", "HEAD") if route.method == "GET" else ("POST",)))
            return ("200 OK", *content_of(path, route, environ))
        raise Refusal("404 Not Found", "nothing here; the page is at /")

    def content_of(path: str, route: Route, environ: Environ) -> tuple[str, bytes]:
        if int(environ.get("CONTENT_LENGTH") or 0) > MAX_PICTURE_BYTES:
            fault = "the picture has more than 10 MB; make it smaller"
            raise Refusal("413 Content Too Large", fault)
        is_get = route.method == "GET"
        asked = environ["QUERY_STRING"].encode() if is_get else environ["wsgi.input"].read()
        try:
            content = route.answer(asked)
        except HandcnnError as error:
            raise Refusal("422 Unprocessable Content", str(error)) from None
        if isinstance(content, bytes):
            return TYPES[path.split(".")[-1]], content
        return JSON, json.dumps(content).encode()

    def respond(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        headers = HEADERS
        try:
            status, kind, body = answer(environ)
        except Refusal as refusal:
            status, kind, body = refusal.status, TEXT, f"{refusal}\n".encode()
            headers = [*HEADERS, *refusal.headers]
        except Exception as error:  # our own bug; the server keeps running
            print(f"page: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
            status, kind, body = "500 Internal Server Error", TEXT, b"internal error of handcnn\n"
        length = ("Content-Length", str(len(body)))
        start_response(status, [("Content-Type", kind), length, *headers])
        return [body]

    return respond


def check_sender(environ: Environ, port: int) -> None:
    """Raise a Refusal unless a request is for this computer, and from its own page or none."""
    host = environ.get("HTTP_HOST", "").lower()
    if not THIS_COMPUTER.fullmatch(host):
        raise Refusal(
            "403 Forbidden",
            f"the page is only at http://{HOST}:{port}/, or a port of localhost forwarded to it",
        )
    origin, site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE", "none")
    if origin not in (None, f"http://{host}") or site not in ("none", "same-origin"):
        raise Refusal(
            "403 Forbidden",
            f"another site sent this request; type http://{host}/ in the address bar",
        )


def check_method(method: str, *methods: str) -> None:
    """Raise a Refusal unless the method of a request is one of these."""
    if method not in methods:
        sentence = f"this address accepts only {' or '.join(methods)}"
        raise Refusal("405 Method Not Allowed", sentence, ("Allow", ", ".join(methods)))
