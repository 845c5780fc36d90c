"""A small OpenML server on loopback that can simulate faults of networks and servers.

It serves what scikit-learn requests: the list, the description, the features and the qualities as
JSON, and the data as ARFF, gzipped if the client accepts it. `faults` gives the fault of each
route, for instance `server.faults["data"] = "truncated"`. While it drips, `hung_up` is set when the
client disconnects; while it pauses, it waits for `go_on`.
"""

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from fetch_locally import run_locally

from data.catalogue import Known

HTML = b"<!DOCTYPE html><html><body>Welcome to the hotel! Please log in.</body></html>"


class OpenML:
    """A server with its content and its faults; it listens at `url`."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, known: Known) -> None:
        assert known.openml
        self.name, version, self.id, _ = known.openml
        api = "/api/v1/json/data"
        self.routes = {
            f"{api}/list/data_name/{self.name.lower()}/limit/2/data_version/{version}": "list",
            f"{api}/features/{self.id}": "features",
            f"{api}/qualities/{self.id}": "qualities",
            f"{api}/{self.id}": "description",
            f"/data/v1/download/52667/{self.name}.arff": "data",
        }
        self.arff = arff(pixels, labels)
        self.faults: dict[str, str] = {}
        self.requests: list[str] = []
        self.over, self.hung_up, self.go_on = (threading.Event() for _ in range(3))
        self.dripping = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop the server. From now on, connections are refused."""
        if not self.over.is_set():
            self.over.set()
            self.http.shutdown()
            self.http.server_close()

    def child(self, setup: str = "") -> Callable[..., None]:
        """Return what replaces `data.openml.run`, so that it asks this server."""
        return partial(run_locally, self.url, setup)

    def address(self, route: str) -> str:
        """Return the URL that scikit-learn requests for a route."""
        return self.url + next(path for path, name in self.routes.items() if name == route)

    def body(self, route: str) -> bytes:
        """Return the correct response for a route."""
        md5 = hashlib.md5(self.arff).hexdigest()
        if self.faults.get("description") == "wrong md5":
            md5 = "0" * 32
        pixels = [column(f"pixel{n + 1}", n) for n in range(784)]
        answers: dict[str, Any] = {
            "list": {"data": {"dataset": [{"did": self.id, "name": self.name, "version": 1}]}},
            "description": {
                "data_set_description": {
                    "id": str(self.id),
                    "name": self.name,
                    "version": "1",
                    "description": "Digits for a test.",
                    "format": "ARFF",
                    "status": "active",
                    "url": self.address("data"),
                    "md5_checksum": md5,
                }
            },
            "features": {"data_features": {"feature": [*pixels, column("class", 784, "nominal")]}},
            "qualities": {
                "data_qualities": {
                    "quality": [
                        {"name": "NumberOfInstances", "value": str(float(self.arff_rows()))}
                    ]
                }
            },
        }
        return self.arff if route == "data" else json.dumps(answers[route]).encode()

    def arff_rows(self) -> int:
        """Return the number of rows of data."""
        return self.arff.partition(b"@DATA\n")[2].count(b"\n")

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True  # otherwise the body arrives 40 ms after the header

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                route = server.routes.get(path, "")
                server.requests.append(route)
                with suppress(OSError):  # the client has disconnected
                    self.answer(route, server.faults.get(route, ""))

            def answer(self, route: str, fault: str) -> None:
                if fault in ("404", "500") or not route:
                    return self.send_error(int(fault or 404))
                if fault == "drop":
                    return None  # closes the connection without a response
                if fault == "stall":
                    server.over.wait()
                    return None
                if fault == "slow header":
                    return self.drip(b"HTTP/1.0 200 OK\r\nX-Slow: " + b"x" * 10**6)
                body = {"html": HTML, "other json": b'{"error": "maintenance"}'}.get(
                    fault, server.body(route)
                )
                self.send_response(200)
                if "gzip" in self.headers.get("Accept-Encoding", ""):
                    self.send_header("Content-Encoding", "gzip")
                    body = gzip.compress(body)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault == "drip":
                    return self.drip(body * 1000)
                if fault == "pause":
                    self.wfile.write(body[: len(body) // 2])
                    server.go_on.wait()
                    body = body[len(body) // 2 :]
                self.wfile.write(body[: len(body) // 2] if fault == "truncated" else body)
                return None

            def drip(self, content: bytes) -> None:
                """Send single bytes with pauses, without ever finishing."""
                server.dripping.set()
                try:
                    for position in range(len(content)):
                        self.wfile.write(content[position : position + 1])
                        if server.over.wait(0.02):
                            break
                except OSError:
                    server.hung_up.set()

        return Handler


def arff(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Return (N, 784) numbers and their labels in OpenML's text format."""
    attributes = "".join(f"@ATTRIBUTE pixel{n + 1} real\n" for n in range(784))
    classes = ",".join(map(str, sorted(set(labels.tolist()))))
    rows = "".join(
        ",".join(map(str, row)) + f",{label}\n"
        for row, label in zip(pixels.tolist(), labels.tolist(), strict=True)
    )
    head = f"@RELATION mnist_784\n{attributes}@ATTRIBUTE class {{{classes}}}\n@DATA\n"
    return (head + rows).encode()


def column(name: str, index: int, kind: str = "numeric") -> dict[str, str]:
    """Return the entry of a column in the list of features."""
    return {
        "index": str(index),
        "name": name,
        "data_type": kind,
        "is_target": "true" if name == "class" else "false",
        "is_ignore": "false",
        "is_row_identifier": "false",
        "number_of_missing_values": "0",
    }


@contextmanager
def serving(pixels: np.ndarray, labels: np.ndarray, known: Known) -> Iterator[OpenML]:
    """Run a server for one data set."""
    server = OpenML(pixels, labels, known)
    try:
        yield server
    finally:
        server.stop()
