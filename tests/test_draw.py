"""draw.py as started by a user, and its server as seen by any program on this machine.

Oracles: whole sentences and exit codes; the status codes of HTTP (RFC 9110); for many clients at
once, the response to a single one. test_browser.py tests the page in a browser.
"""

import base64
import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import NO_PICTURE
from PIL import Image

pytest.importorskip("waitress", reason="waitress, the server of the page, is not installed")

from benchmarks.drawing import serve
from data import load_dataset
from handcnn import HandcnnError, documented_network
from handcnn.commands import draw
from handcnn.commands.hints import fine_tune_command
from handcnn.page import server
from handcnn.page.collection import Collection
from handcnn.storage.classifiers import read_saved_network
from handcnn.storage.mistakes import read_mistakes
from handcnn.text import percent

ROOT = Path(__file__).parents[1]
SEVEN = (ROOT / "docs" / "seven.jpg").read_bytes()
BROKEN = f"the picture {NO_PICTURE}\n"
MANY = 20
SCRIPTS = ("draw", "pad", "boxes", "bars", "maps", "mistakes", "teach", "dom")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    net = documented_network(rng=np.random.default_rng(0))
    net.save(path, dataset="mnist", epoch=3, val_accuracy=0.5)
    return path


@pytest.fixture(scope="module")
def port(weights: Path) -> Iterator[int]:
    """Yield the port of a server for all tests of this file; it must print no errors."""
    with serve(weights, stderr=subprocess.PIPE) as (address, process):
        yield int(address.split(":")[-1].strip("/"))
        if sys.platform == "win32":  # has no such signals
            return
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read() == "draw.py: interrupted\n"
        assert process.wait() == 130


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    """Send a request without changes; return the response and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Host": f"127.0.0.1:{port}"} | (headers or {})
    if body:
        headers["Content-Length"] = str(len(body))
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value.replace("PORT", str(port)))
    with closing(connection):
        connection.endheaders(body or None)
        response = connection.getresponse()
        return response, response.read()


def png(width: int, height: int, colour: int = 255) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def test_what_the_page_is_made_of(port: int) -> None:
    kinds = {
        "/": "text/html; charset=utf-8",
        "/page.css": "text/css; charset=utf-8",
        **{f"/{name}.js": "text/javascript; charset=utf-8" for name in SCRIPTS},
        "/icon.svg": "image/svg+xml",
        "/network": "application/json",
    }
    for path, kind in kinds.items():
        response, body = ask(port, "GET", path)
        assert (response.status, response.headers["Content-Type"]) == (200, kind)
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in body  # loads nothing from other sites
        policy = dict(
            part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; ")
        )
        assert policy["default-src"] == "'none'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        head, nothing = ask(port, "HEAD", path)
        assert (head.status, nothing) == (200, b"")
        assert head.headers["Content-Length"] == str(len(body))


def test_a_picture_is_read(port: int) -> None:
    response, body = ask(port, "POST", "/read", SEVEN)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    (digit,) = json.loads(body)["digits"]
    assert digit.keys() > {"answer", "percents", "seen", "layers", "gradients"}
    seen = base64.b64decode(digit["seen"])
    response, body = ask(port, "POST", "/explain", seen)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {key: digit[key] for key in ("layers", "gradients", "votes")}
    response, body = ask(port, "POST", "/explain", seen[1:])
    assert response.status == 422
    assert body == b"an explanation needs the 784 bytes of an image that was read, got 783\n"


HERE = "the page is only at http://127.0.0.1:PORT/, or a port of localhost forwarded to it\n"
OTHER = "another site sent this request; type http://127.0.0.1:PORT/ in the address bar\n"
NOTHING = "nothing here; the page is at /\n"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "answer"),
    [
        ("GET", "/", {"Host": "localhost:PORT"}, 200, None),
        ("GET", "/", {"Host": "LocalHost:PORT"}, 200, None),
        ("GET", "/", {"Host": "localhost"}, 200, None),
        ("GET", "/", {"Host": "127.0.0.1:8080"}, 200, None),  # forwarded
        ("POST", "/read", {"Host": "localhost:8080", "Origin": "http://localhost:8080"}, 200, None),
        ("GET", "/", {"Host": "[::1]:8080"}, 200, None),
        ("GET", "/", {"Host": "127.0.0.1:"}, 403, HERE),
        ("GET", "/", {"Host": "127.0.0.1:PORT@example.org"}, 403, HERE),
        ("GET", "/", {"Host": "localhost.example.org:8080"}, 403, HERE),
        ("GET", "/", {"Host": "2130706433:PORT"}, 403, HERE),
        ("GET", "/", {"Host": "example.org:PORT"}, 403, HERE),
        ("GET", "/", {"Host": "127.0.0.1.example.org:PORT"}, 403, HERE),
        ("GET", "/", {"Host": ""}, 403, HERE),
        ("GET", "/", {"Sec-Fetch-Site": "none"}, 200, None),
        ("GET", "/", {"Sec-Fetch-Site": "same-origin"}, 200, None),
        ("GET", "/", {"Sec-Fetch-Site": "same-site"}, 403, OTHER),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site"}, 403, OTHER),
        ("POST", "/read", {"Origin": "http://example.org"}, 403, OTHER),
        ("POST", "/read", {"Origin": "http://localhost:PORT"}, 403, OTHER),
        ("POST", "/read", {"Origin": "http://127.0.0.1:8080"}, 403, OTHER),  # another local server
        ("POST", "/read", {"Origin": "https://127.0.0.1:PORT"}, 403, OTHER),
        ("POST", "/read", {"Origin": "null"}, 403, OTHER),
        ("POST", "/read", {"Origin": "http://127.0.0.1:PORT"}, 200, None),
        ("GET", "/page.py", {}, 404, NOTHING),
        ("GET", "/../../draw.py", {}, 404, NOTHING),
        ("GET", "/%2e%2e/%2e%2e/draw.py", {}, 404, NOTHING),
        ("GET", "//etc/passwd", {}, 404, NOTHING),
        ("GET", "/draw.js/", {}, 404, NOTHING),
        ("GET", "/read", {}, 405, "this address accepts only POST\n"),
        ("PUT", "/read", {}, 405, "this address accepts only POST\n"),
        ("POST", "/", {}, 405, "this address accepts only GET or HEAD\n"),
        ("OPTIONS", "/network", {}, 405, "this address accepts only GET or HEAD\n"),
    ],
)
def test_who_may_ask_and_what(
    port: int, method: str, path: str, headers: dict[str, str], status: int, answer: str | None
) -> None:
    response, body = ask(port, method, path, SEVEN if path == "/read" else b"", headers)
    assert response.status == status
    if answer is not None:
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert body.decode() == answer.replace("PORT", str(port))
    if status == 405:
        assert response.headers["Allow"] == ("POST" if path == "/read" else "GET, HEAD")


@pytest.mark.parametrize(
    ("content", "status", "answer"),
    [
        (b"", 422, "the picture is empty; save the picture again\n"),
        (b'{"strokes": [', 422, BROKEN),
        (SEVEN[:2000], 422, BROKEN),
        (
            png(50, 50),
            422,
            "the picture is blank: no stroke stands out from the background; "
            "draw one digit, dark on light or light on dark\n",
        ),
        (
            png(20_000, 5_001),
            422,
            "the picture has more than 100 megapixels; crop it or make it smaller\n",
        ),
        (bytes(server.MAX_PICTURE_BYTES), 422, BROKEN),
        (
            bytes(server.MAX_PICTURE_BYTES + 1),
            413,
            "the picture has more than 10 MB; make it smaller\n",
        ),
    ],
    ids=["empty", "JSON", "half a picture", "blank", "100 megapixels", "10 MB", "more"],
)
def test_pictures_that_cannot_be_read(port: int, content: bytes, status: int, answer: str) -> None:
    response, body = ask(port, "POST", "/read", content)
    assert (response.status, body.decode()) == (status, answer)
    assert ask(port, "GET", "/")[0].status == 200


@pytest.mark.parametrize("request_", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"])
def test_what_is_hardly_a_request(port: int, request_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request_)
        assert client.recv(12)[9:10] == b"4"
    assert ask(port, "GET", "/")[0].status == 200


def test_many_clients_at_once_get_the_answers_that_one_alone_gets(port: int) -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(MANY):
        grey = np.full((60, 60), 255, np.uint8)
        for x, y in rng.integers(10, 40, (3, 2)):
            grey[y : y + 4, x - 8 : x + 12] = 0
            grey[y - 8 : y + 12, x : x + 4] = 0
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "PNG")
        pictures.append(file.getvalue())
    alone = [ask(port, "POST", "/read", picture)[1] for picture in pictures]
    assert len(set(alone)) == MANY
    start = threading.Barrier(MANY)

    def client(number: int) -> list[bytes]:
        start.wait()
        order = [(number + i) % MANY for i in range(2)]
        return [ask(port, "POST", "/read", pictures[i])[1] for i in order]

    with ThreadPoolExecutor(MANY) as clients:
        for number, answers in enumerate(clients.map(client, range(MANY))):
            assert answers == [alone[(number + i) % MANY] for i in range(2)]


# Mistakes and drawings kept ----------------------------------------------------------------------


def test_a_run_offers_its_mistakes(finished: Path) -> None:
    with serve(finished) as (address, _):
        port = int(address.split(":")[-1].strip("/"))
        assert json.loads(ask(port, "GET", "/network")[1])["hasMistakes"]
        shown = json.loads(ask(port, "GET", "/mistakes")[1])
    mistakes = read_mistakes(finished / "mistakes.npz", 10)
    assert shown["side"] == 28
    for i, found in enumerate(shown["mistakes"]):
        assert base64.b64decode(found["image"]) == mistakes.images[i].tobytes()
        assert found["number"] == f"{mistakes.numbers[i]:,}"
        assert (found["label"], found["answer"]) == (mistakes.labels[i], mistakes.answers[i])
        assert found["percent"] == percent(mistakes.probabilities[i])


def test_other_weights_offer_none(port: int, finished: Path, tmp_path: Path) -> None:
    assert not json.loads(ask(port, "GET", "/network")[1])["hasMistakes"]
    assert ask(port, "GET", "/mistakes")[0].status == 404
    weights = shutil.copy(finished / "weights.npz", tmp_path)  # as of a run of an older version
    assert draw.mistakes_of(read_saved_network(weights)) is None


def collection(folder: Path) -> Collection:
    return Collection(folder, [str(k) for k in range(10)], "train")


def test_drawings_are_kept_as_a_data_set(tmp_path: Path) -> None:
    """Two at a time, from several threads: no name clashes."""
    folder = tmp_path / "a b" / "mine"
    kept = collection(folder)
    assert kept.state()["counts"] == [0] * 10
    drawing = np.full((200, 350), 255, np.uint8)
    drawing[40:160, 170:180] = 0
    content = b"P5 350 200 255\n" + drawing.tobytes()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: kept.keep(i % 2, content), range(40)))
    state = kept.state()
    assert (state["folder"], state["undoable"]) == (str(folder), 40)
    assert state["counts"] == [20, 20, *[0] * 8]
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]
    for path in folder.glob("*/*"):
        assert path.suffix == ".png"
        with Image.open(path) as image:
            assert (np.asarray(image) == drawing).all()
    dataset = load_dataset(str(folder), say=lambda line: None)
    assert dataset.class_names == ["0", "1"]
    assert sum(dataset.record["sizes"].values()) == 40


def test_the_last_drawings_are_removed_and_no_others(tmp_path: Path) -> None:
    collection(tmp_path).keep(3, SEVEN)
    (earlier,) = (tmp_path / "3").iterdir()
    kept = collection(tmp_path)
    kept.keep(3, SEVEN)
    kept.keep(7, SEVEN)
    assert kept.undo()["counts"] == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    assert not (tmp_path / "7").exists()
    for _ in range(2):
        assert kept.undo()["counts"][3] == 1
    assert list((tmp_path / "3").iterdir()) == [earlier]


def test_a_drawing_that_cannot_be_kept(tmp_path: Path) -> None:
    kept = collection(tmp_path)
    with pytest.raises(HandcnnError, match=f"^the picture {re.escape(NO_PICTURE)}$"):
        kept.keep(1, b"nothing")
    (tmp_path / "1").write_text("a file")
    with pytest.raises(HandcnnError) as refusal:
        kept.keep(1, SEVEN)
    start, end = (
        f"the drawing was not kept: {tmp_path}{os.sep}1{os.sep}",
        ("; free some disk space, or check the folder's permissions"),
    )
    assert str(refusal.value).startswith(start)
    assert str(refusal.value).endswith(end)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert kept.state()["undoable"] == 0


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "c:d"])
def test_classes_that_cannot_be_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(HandcnnError, match=f"and none can be named {re.escape(repr(name))}; "):
        Collection(tmp_path, ["a", name], "")


def test_collecting_over_http(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    with serve(weights, "--collect", str(folder)) as (address, _):
        port = int(address.split(":")[-1].strip("/"))
        assert json.loads(ask(port, "GET", "/network")[1])["collects"]
        assert json.loads(ask(port, "POST", "/keep/7", SEVEN)[1])["counts"][7] == 1
        state = json.loads(ask(port, "POST", "/kept")[1])
        assert ask(port, "POST", "/keep/10", SEVEN)[0].status == 404
        assert ask(port, "POST", "/keep/../7", SEVEN)[0].status == 404
        evil = {"Origin": "http://example.org"}
        assert ask(port, "POST", "/unkeep", headers=evil)[0].status == 403
        assert len(list(folder.glob("*/*"))) == 1
        assert json.loads(ask(port, "POST", "/unkeep")[1])["counts"] == [0] * 10
    assert state["folder"] == str(folder)
    assert state["command"] == fine_tune_command(weights, folder)
    words = shlex.split(state["command"])
    assert words[2:] == ["--start-from", str(weights), "--dataset", str(folder)]


def test_without_the_option_nothing_is_kept(port: int) -> None:
    assert not json.loads(ask(port, "GET", "/network")[1])["collects"]
    assert ask(port, "POST", "/keep/7", SEVEN)[0].status == 404


# draw.py itself ----------------------------------------------------------------------------------


class Browser(webbrowser.BaseBrowser):
    """A browser that only records what it opens."""

    def __init__(self, name: str, addresses: list[str]) -> None:
        super().__init__(name)
        self.addresses = addresses

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.addresses.append(url)
        return True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep draw.py from serving and opening a browser; return what it would have opened."""
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "get", lambda: Browser("firefox", addresses))
    monkeypatch.setattr(server, "serve", lambda *_, **__: None)
    return addresses


@pytest.mark.parametrize("options", [[], ["--no-browser"]])
def test_it_prints_the_address_and_opens_the_browser(
    weights: Path, options: list[str], opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    threads = threading.enumerate()
    assert draw.main(["--weights", str(weights), *options]) == 130
    for thread in threading.enumerate():
        if thread not in threads:
            thread.join()
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"weights: {weights} (mnist, epoch 3, 50.00 % on validation)"
    address = out[1].removeprefix("draw on: ").removesuffix("   (Ctrl-C ends it)")
    assert address.startswith("http://127.0.0.1:")
    assert opened == ([] if options else [address])


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="has a graphical browser")
@pytest.mark.parametrize("name", ["lynx", "www-browser", None])
def test_without_a_display_no_browser_starts(tmp_path: Path, name: str | None) -> None:
    """Regression: a text browser took over the terminal."""
    if name:
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        program.chmod(0o755)
    code = "from handcnn.page.browser import open_page; print(open_page('http://127.0.0.1:1/'))"
    environment = {"PATH": str(tmp_path), "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
    assert not (tmp_path / "started").exists()


def test_without_a_browser_it_says_how_to_reach_the_page(
    weights: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: Browser("/usr/bin/w3m", opened))
    assert draw.main(["--weights", str(weights)]) == 130
    *_, address, advice = capsys.readouterr().out.splitlines()
    port = address.split(":")[3].split("/")[0]
    assert advice == (
        "no graphical browser here: open the address in one; on another computer, forward the "
        f"port first: ssh -L {port}:localhost:{port} THIS_COMPUTER"
    )
    assert opened == []


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")
def test_sigterm_ends_it_with_its_exit_code(weights: Path) -> None:
    with serve(weights, stderr=subprocess.PIPE) as (_, process):
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read() == "draw.py: stopped by SIGTERM\n"
        assert process.wait() == 143


def test_a_busy_port_is_one_sentence(
    weights: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert draw.main(["--weights", str(weights), "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"draw.py: port {port} is used by another program; choose another one, or omit --port\n"
    )
    assert opened == []


def test_without_a_port_a_free_one_is_found() -> None:
    with server.listen(None) as one, server.listen(None) as two:
        assert one.getsockname()[1] != two.getsockname()[1]


def test_without_its_server_library_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "waitress.py").write_text("raise ModuleNotFoundError(name='waitress')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    code = "import runpy; runpy.run_path('draw.py', run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (
        1,
        "draw.py: waitress is not installed in this Python; use make, or see README.md\n",
    )


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({}, [str(k) for k in range(10)]),
        ({"classes": [f"c{k}\n" for k in range(10)]}, [f"c{k}\\n" for k in range(10)]),
        ({"classes": ["a", "b"]}, [str(k) for k in range(10)]),
        ({"classes": 10}, [str(k) for k in range(10)]),
        ({"classes": list(range(10))}, [str(k) for k in range(10)]),
    ],
)
def test_the_names_of_the_classes(
    metadata: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    documented_network().save(tmp_path / "w.npz", **metadata)
    assert read_saved_network(tmp_path / "w.npz").class_names == names
