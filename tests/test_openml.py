"""MNIST over a real network connection, with faults of the network, the server and the disk.

The child process is the real one, except for its URLs and time limits: see `fetch_locally`.

The oracles are the data served by `openml_server` and the sentence that a user should read. The
data have 784 pixels per row like MNIST, but 36 rows and three classes, so `SMALL` replaces the
published facts. A server that drips or stalls never finishes: these tests end only because the
client gives up.
"""

import gzip
import hashlib
import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pytest
from damaged_files import Damage, damages, fuzzed
from hypothesis import given
from openml_server import OpenML, arff, serving

from data import load_dataset
from data.catalogue import CATALOGUE, Known
from data.openml import fetch
from data.published import load_published, read
from handcnn import HandcnnError
from handcnn.storage.archive import write_archive

ROOT = Path(__file__).parent.parent
FILE = "mnist.npz"
RNG = np.random.default_rng(5)
LABELS = RNG.permutation(np.repeat([0, 1, 2], 12)).astype(np.uint8)
PIXELS = RNG.integers(0, 256, size=(36, 784), dtype=np.uint8)
SMALL = replace(
    CATALOGUE["mnist"],
    train_counts=tuple(np.bincount(LABELS[:24], minlength=3).tolist()),
    test_counts=tuple(np.bincount(LABELS[24:], minlength=3).tolist()),
    validation=4,
    sha256={
        "images": hashlib.sha256(PIXELS.tobytes()).hexdigest(),
        "labels": hashlib.sha256(LABELS.tobytes()).hexdigest(),
    },
)
# Only the limits under test are short, so that a busy machine cannot break a test.
SHORT = {
    ("list", "drip"): "ANSWER_SECONDS",
    ("list", "slow header"): "ANSWER_SECONDS",
    ("list", "stall"): "SILENCE_SECONDS",
    ("data", "drip"): "DOWNLOAD_SECONDS",
    ("data", "stall"): "SILENCE_SECONDS",
}


class Machine:
    """A user's machine: its folders, the messages shown, and a start of the program."""

    def __init__(self, folder: Path) -> None:
        self.home, self.cache = folder / "home", folder / "cache"
        self.said: list[str] = []

    def start(self, known: Known = SMALL) -> None:
        """Load MNIST and compare it with the data of the server."""
        self.said.clear()
        found = load_published(known, self.home, self.cache, self.said.append)
        assert found.images.dtype == found.labels.dtype == np.uint8
        np.testing.assert_array_equal(found.images, PIXELS.reshape(-1, 28, 28))
        np.testing.assert_array_equal(found.labels, LABELS)

    def fails(self, known: Known = SMALL) -> str:
        """Start the program, which must fail; return its message."""
        with pytest.raises(HandcnnError) as caught:
            self.start(known)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def files(self, folder: Path) -> list[str]:
        return sorted(file.name for file in folder.rglob("*") if file.is_file())

    def cached(self, name: str) -> Path:
        (found,) = (file for file in self.home.rglob("*.gz") if str(file).endswith(name))
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


Setup = Callable[[str], None]


@pytest.fixture(scope="module", autouse=True)
def _fork_children() -> Iterator[None]:
    """Start child processes by forks of a process that has scikit-learn loaded: loading is slow."""
    with pytest.MonkeyPatch.context() as patch:
        if "forkserver" in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["sklearn.datasets", "fetch_locally"])
            patch.setattr("data.openml.CONTEXT", context)
        yield


@pytest.fixture
def server() -> Iterator[OpenML]:
    with serving(PIXELS, LABELS, CATALOGUE["mnist"]) as running:
        yield running


@pytest.fixture
def set_up(server: OpenML, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Return a function that makes every fetch use the server, after running some Python code."""
    return lambda setup: monkeypatch.setattr("data.openml.run", server.child(setup))


@pytest.fixture(autouse=True)
def _ask_the_server(set_up: Setup) -> None:
    set_up("")


def test_fetched_once_then_read_from_either_cache(machine: Machine, server: OpenML) -> None:
    machine.start()
    assert server.requests == ["list", "description", "features", "qualities", "data"]
    parsing = f"MNIST: parsing {machine.cached('mnist_784.arff.gz')}; this takes about 20 s, once"
    assert machine.said == ["MNIST: fetching about 15 MB from openml.org, once", parsing]
    server.stop()
    machine.start()
    assert machine.said == []
    (machine.cache / FILE).unlink()
    machine.start()
    assert machine.said == [parsing]
    assert machine.files(machine.cache) == [FILE]


def test_data_home_of_scikit_learn_is_honoured(
    machine: Machine, server: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.start()
    server.stop()
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(machine.home))
    found = load_published(SMALL, None, machine.cache / "other", machine.said.append)
    np.testing.assert_array_equal(found.labels, LABELS)


FAULTS = [
    ("list", "404", "{host} answered 404 Not Found to {url}"),
    ("list", "500", "{host} answered 500 Internal Server Error to {url}"),
    ("list", "drop", "{host} closed the connection for {url}"),
    ("list", "html", "the response of {host} to {url} is not JSON (a log-in page, perhaps?)"),
    (
        "list",
        "other json",
        "the response of {host} to {url} is not MNIST as OpenML sends it (KeyError: 'data')",
    ),
    ("list", "truncated", "the response of {host} to {url} is incomplete or damaged"),
    ("list", "drip", "{host} did not send all of {url} within 0.3 s"),
    ("list", "slow header", "{host} did not send all of {url} within 0.3 s"),
    ("list", "stall", "{host} sent nothing for 0.3 s while sending {url}"),
    ("description", "500", "{host} answered 500 Internal Server Error to {url}"),
    (
        "description",
        "wrong md5",
        "the response of {host} to {data} is damaged: "
        "its MD5 is not the one that OpenML gives for it",
    ),
    ("features", "html", "the response of {host} to {url} is not JSON (a log-in page, perhaps?)"),
    ("qualities", "truncated", "the response of {host} to {url} is incomplete or damaged"),
    ("data", "404", "{host} answered 404 Not Found to {url}"),
    (
        "data",
        "html",
        "the response of {host} to {url} is damaged: "
        "its MD5 is not the one that OpenML gives for it",
    ),
    ("data", "truncated", "the response of {host} to {url} is incomplete or damaged"),
    ("data", "drip", "{host} did not send all of {url} within 0.3 s"),
    ("data", "stall", "{host} sent nothing for 0.3 s while sending {url}"),
]


@pytest.mark.parametrize(("route", "fault", "sentence"), FAULTS)
def test_fault_is_one_sentence_and_nothing_is_left(
    machine: Machine,
    server: OpenML,
    set_up: Setup,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    fault: str,
    sentence: str,
) -> None:
    server.faults[route] = fault
    match SHORT.get((route, fault)):
        case "SILENCE_SECONDS":
            set_up("fetch.SILENCE_SECONDS = 0.3")
        case str(limit):
            monkeypatch.setattr(f"data.openml.{limit}", 0.3)
    assert machine.fails() == sentence.format(
        host=server.host, url=server.address(route), data=server.address("data")
    )
    assert machine.files(machine.home) == machine.files(machine.cache) == []


OUTSIDE = [
    (
        "a name that is looked up for ever",
        "fetch.socket.getaddrinfo = lambda *_, **__: __import__('threading').Event().wait()",
        "{host} could not be reached within 0.2 s",
    ),
    (
        "a full disk",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))",
        "MNIST cannot be downloaded to {temporary}: File too large",
    ),
    (
        "too little memory, as Python sees it",
        "def as_bytes(*_): raise MemoryError\nfetch.as_bytes = as_bytes",
        "there is too little memory to parse MNIST, which takes about 1 GB",
    ),
    (
        "too little memory, and the system kills",
        "fetch.as_bytes = lambda *_: fetch.os.kill(fetch.os.getpid(), 9)",
        "the process that fetches and parses MNIST was killed, perhaps because memory ran out: it "
        "needs about 1 GB",
    ),
]


@pytest.mark.parametrize(
    ("setup", "sentence"), [row[1:] for row in OUTSIDE], ids=[row[0] for row in OUTSIDE]
)
def test_fault_of_this_machine(
    machine: Machine,
    server: OpenML,
    set_up: Setup,
    monkeypatch: pytest.MonkeyPatch,
    setup: str,
    sentence: str,
) -> None:
    set_up(setup)
    monkeypatch.setattr("data.openml.CONNECT_SECONDS", 0.2 if "getaddrinfo" in setup else 60)
    assert machine.fails() == sentence.format(host=server.host, temporary=gettempdir())
    assert machine.files(machine.home) == machine.files(machine.cache) == []


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(
    ("name", "whole_group"),
    [("SIGINT", False), ("SIGINT", True), ("SIGTERM", False), ("SIGKILL", False)],
)
def test_whoever_ends_the_download_leaves_no_orphan_and_no_half_file(
    machine: Machine, server: OpenML, tmp_path: Path, name: str, whole_group: bool
) -> None:
    """The server sees the connection of the child process close when the parent ends.

    Ctrl-C in a terminal is a signal to the whole group of processes.
    """
    number = getattr(signal, name)
    server.faults["data"] = "drip"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = f"""
import sys, tempfile
from functools import partial
from pathlib import Path
sys.path.insert(0, "tests")
import data.openml, fetch_locally
from data.catalogue import CATALOGUE
from data.published import load_published
from handcnn.commands.command_line import run
tempfile.tempdir = {str(temporary)!r}
data.openml.run = partial(fetch_locally.run_locally, {server.url!r}, "")
places = (Path({str(machine.home)!r}), Path({str(machine.cache)!r}))
sys.exit(run("program", lambda: load_published(CATALOGUE["mnist"], *places, print)))
"""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=pipe, stderr=pipe, start_new_session=True
    ) as process:
        assert server.dripping.wait(60)
        if whole_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert server.hung_up.wait(60)
        out, err = process.communicate()
    assert out == b"MNIST: fetching about 15 MB from openml.org, once\n"
    expected = {
        "SIGINT": (130, b"program: interrupted\n"),
        "SIGTERM": (143, b"program: stopped by SIGTERM\n"),
        "SIGKILL": (-number, b""),
    }
    assert (process.returncode, err) == expected[name]
    assert machine.files(machine.home) == []
    wait_until(lambda: not list(temporary.iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for at most a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Screen(io.StringIO):
    """A terminal; once it has shown some bytes, the server continues."""

    def __init__(self, server: OpenML) -> None:
        super().__init__()
        self.server = server

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if re.search(r"MNIST: .* [1-9][\d.]*k/15\.0M ", text):
            self.server.go_on.set()
        return super().write(text)


def test_the_download_can_be_watched(
    machine: Machine, server: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.arff = arff(RNG.integers(0, 256, size=(200, 784)), np.arange(200) % 10)
    server.faults["data"] = "pause"
    screen = Screen(server)
    monkeypatch.setattr("sys.stderr", screen)
    fetch(SMALL, machine.home, lambda *_: None, machine.said.append)
    assert server.go_on.is_set()
    assert screen.getvalue().endswith("\r")  # the bar was removed


def test_without_a_terminal_there_are_plain_lines(
    machine: Machine, server: OpenML, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.start()
    assert capfd.readouterr() == ("", "")


WRONG = [
    (
        "a row is missing",
        (PIXELS[1:], LABELS[1:]),
        "is not MNIST: MNIST has 36 images of 28x28 and as many labels, but found images of "
        "shape (35, 28, 28) and labels of shape (35,)",
    ),
    (
        "two labels changed places over the border of the parts",
        (PIXELS, np.concatenate([LABELS[-1:], LABELS[1:-1], LABELS[:1]])),
        "is not MNIST: the images per class in the training part are ",
    ),
    (
        "half a grey level",
        (PIXELS + np.where(np.arange(784) == 3, 0.5, 0.0), LABELS),
        "is not MNIST as OpenML sends it (ValueError: not every pixel is an integer in 0..255)",
    ),
    (
        "a grey level below zero",
        (np.where(np.arange(784) == 3, -1, PIXELS.astype(int)), LABELS),
        "is not MNIST as OpenML sends it (ValueError: not every pixel is an integer in 0..255)",
    ),
    (
        "no number",
        (np.where(np.arange(784) == 3, np.nan, PIXELS), LABELS),
        "is not MNIST as OpenML sends it (ValueError: not every pixel is an integer in 0..255)",
    ),
    (
        "letters for labels",
        (PIXELS, np.array(list("abc"))[LABELS]),
        "is not MNIST as OpenML sends it (ValueError: invalid literal for int() with base 10: ",
    ),
]


@pytest.mark.parametrize(
    ("content", "sentence"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_data_that_is_not_mnist_is_not_kept(
    machine: Machine, server: OpenML, content: tuple[np.ndarray, np.ndarray], sentence: str
) -> None:
    right, server.arff = server.arff, arff(*content)
    message = machine.fails()
    assert message.startswith(
        f"the response of {server.host} to {server.address('data')} {sentence}"
    )
    assert machine.files(machine.home) == machine.files(machine.cache) == []
    server.arff = right
    machine.start()


def spoil_pixel_file(machine: Machine) -> Path:
    file = machine.cached("mnist_784.arff.gz")
    file.write_bytes(file.read_bytes()[:-100])
    return file


def spoil_pixels(machine: Machine) -> Path:
    file = machine.cached("mnist_784.arff.gz")
    file.write_bytes(gzip.compress(arff(PIXELS[::-1], LABELS)))
    return file


def spoil_answer(machine: Machine) -> Path:
    file = machine.cached("qualities/554.gz")
    file.write_bytes(gzip.compress(b"<html>"))
    return file


SPOILT = [
    (
        spoil_pixel_file,
        "it is incomplete or damaged (Compressed file ended before the end-of-stream marker was "
        "reached)",
    ),
    (spoil_pixels, "its MD5 is not the one that OpenML gives for it"),
    (spoil_answer, "it is incomplete or not a response of OpenML"),
]


@pytest.mark.parametrize(("spoil", "fault"), SPOILT)
def test_damaged_download_cache_is_quarantined_and_fetched_again(
    machine: Machine, server: OpenML, spoil: Callable[[Machine], Path], fault: str
) -> None:
    machine.start()
    (machine.cache / FILE).unlink()
    file = spoil(machine)
    content = file.read_bytes()
    machine.start()
    bad = file.with_name(file.name + ".bad")
    assert machine.said[0] == f"{file} cannot be used: {fault}; it is quarantined as {bad.name}"
    assert bad.read_bytes() == content
    server.stop()
    machine.start()


@pytest.mark.parametrize(("spoil", "fault"), SPOILT)
def test_damaged_download_cache_without_a_network(
    machine: Machine, server: OpenML, spoil: Callable[[Machine], Path], fault: str
) -> None:
    machine.start()
    (machine.cache / FILE).unlink()
    file = spoil(machine)
    content = file.read_bytes()
    server.stop()
    assert machine.fails() == f"{server.host} could not be reached (Connection refused)"
    assert file.with_name(file.name + ".bad").read_bytes() == content


def test_download_cache_that_holds_other_data_is_quarantined_and_fetched_again(
    machine: Machine, server: OpenML
) -> None:
    right, server.arff = server.arff, arff(PIXELS[:4], LABELS[:4])
    counts = tuple(np.bincount(LABELS[:4], minlength=3).tolist())
    load_published(
        replace(SMALL, train_counts=counts, test_counts=(0, 0, 0)),
        machine.home,
        machine.cache,
        print,
    )
    (machine.cache / FILE).unlink()
    server.arff = right
    machine.start()
    assert "is not MNIST: MNIST has 36 images" in machine.said[1]
    assert "mnist_784.arff.gz.bad" in machine.files(machine.home)


def test_a_download_cache_that_cannot_be_written(machine: Machine, server: OpenML) -> None:
    folder = machine.home / "openml" / "openml.org"
    folder.mkdir(parents=True)
    (folder / "data").write_text("not a folder")
    machine.start()
    assert machine.said[2:] == [
        f"{folder}, scikit-learn's download cache, cannot keep MNIST: Not a directory"
    ]
    server.stop()
    machine.start()  # from the fast cache


def test_a_download_cache_that_swells_takes_no_memory(machine: Machine, server: OpenML) -> None:
    machine.start()
    (machine.cache / FILE).unlink()
    with gzip.open(machine.cached("qualities/554.gz"), "wb", 1) as file:
        for _ in range(100):
            file.write(b" " * 10**6)
    tracemalloc.start()
    machine.start()
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert "it is incomplete or not a response of OpenML" in machine.said[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_download_cache(machine: Machine, server: OpenML) -> None:
    machine.start()
    (machine.cache / FILE).unlink()
    file = machine.cached("qualities/554.gz")
    file.unlink()
    os.mkfifo(file)
    assert machine.fails() == (
        f"{file} in scikit-learn's download cache cannot be read: it is not a file"
    )


def test_a_daemonic_process_is_told_what_to_do(
    machine: Machine, server: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert machine.fails() == (
        "MNIST is parsed in a process of its own, which a daemonic process cannot start; "
        "run `python -m data mnist` once before"
    )


@pytest.mark.parametrize("is_file", [True, False], ids=["a file", "standard input"])
def test_a_script_needs_no_guard(
    machine: Machine, server: OpenML, tmp_path: Path, is_file: bool
) -> None:
    """Regression: the child process imported the script, which started another child process."""
    text = f"""
import sys
from functools import partial
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import data.openml, fetch_locally
from data.catalogue import CATALOGUE
data.openml.run = partial(fetch_locally.run_locally, {server.url!r}, "")
_, labels = data.openml.fetch(CATALOGUE["mnist"], Path({str(machine.home)!r}), lambda *_: None, len)
print(labels.tolist())
"""
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, str(script) if is_file else "-"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, input=text)
    assert (done.stdout, done.stderr) == (f"{LABELS.tolist()}\n", "")


def test_damaged_download_that_cannot_be_quarantined_is_named(
    machine: Machine, server: OpenML
) -> None:
    machine.start()
    (machine.cache / FILE).unlink()
    file = spoil_pixels(machine)
    (file.with_name(file.name + ".bad") / "in the way").mkdir(parents=True)
    assert machine.fails() == (
        f"{file} in scikit-learn's download cache cannot be used (its MD5 is not the one that "
        "OpenML gives for it) and could not be quarantined (Is a directory); delete it and start "
        "again"
    )


def test_download_folder_that_is_a_file(machine: Machine, server: OpenML) -> None:
    machine.home.write_text("not a folder")
    assert machine.fails() == (
        f"scikit-learn's download folder cannot be used: {machine.home}: File exists"
    )


def fill(cache: Path, images: np.ndarray, labels: np.ndarray, **metadata: object) -> None:
    arrays = {"images": images.reshape(-1, 28, 28), "labels": labels}
    cache.mkdir(exist_ok=True)
    write_archive(cache / FILE, "mnist", arrays, {"sha256": SMALL.sha256, **metadata})


def flip_a_pixel(cache: Path) -> None:
    content = bytearray((cache / FILE).read_bytes())
    content[content.index(PIXELS.tobytes()) + 5] ^= 1
    (cache / FILE).write_bytes(content)


BAD_CACHES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (
        lambda cache: (cache / FILE).write_bytes((cache / FILE).read_bytes()[:2000]),
        "{path} is not a complete .npz file: File is not a zip file",
    ),
    "a flipped bit": (
        flip_a_pixel,
        "{path} is not a complete .npz file: Bad CRC-32 for file 'images.npy'",
    ),
    "fewer rows": (
        lambda cache: fill(cache, PIXELS[:30], LABELS[:30]),
        "{path} cannot be used: the array 'images' has shape (30, 28, 28) of uint8, "
        "but (36, 28, 28) of uint8 is needed",
    ),
    "other classes": (
        lambda cache: fill(cache, PIXELS, np.full(36, 2, np.uint8)),
        "{path} cannot be used: the images per class in the training part are 0 0 24, "
        f"but those of MNIST are {' '.join(map(str, SMALL.train_counts))}",
    ),
    "an unknown class": (
        lambda cache: fill(
            cache, PIXELS, np.where(np.arange(36) == 30, 7, LABELS).astype(np.uint8)
        ),
        "{path} cannot be used: the images per class in the test part are ",
    ),
    "other pixels": (
        lambda cache: fill(cache, PIXELS[::-1], LABELS),
        "{path} cannot be used: its pixels or labels have changed since it was written (SHA-256)",
    ),
    "no hash": (
        lambda cache: fill(cache, PIXELS, LABELS, sha256=None),
        "{path} cannot be used: its pixels or labels have changed since it was written (SHA-256)",
    ),
}


@pytest.mark.parametrize("name", BAD_CACHES)
def test_bad_fast_cache_is_named_quarantined_and_fetched_again(
    machine: Machine, server: OpenML, name: str
) -> None:
    machine.start()
    spoil, sentence = BAD_CACHES[name]
    spoil(machine.cache)
    path = machine.cache / FILE
    content = path.read_bytes()
    machine.start()
    assert machine.said[0].startswith(sentence.format(path=path))
    assert machine.said[0].endswith(
        "; it is quarantined as mnist.npz.bad, and MNIST is fetched again"
    )
    assert (machine.cache / "mnist.npz.bad").read_bytes() == content
    machine.start()
    assert machine.said == []


@pytest.mark.parametrize("place", ["fast", "download", "answers"])
def test_a_cache_that_cannot_be_read_now_stays_where_it_is(
    machine: Machine, server: OpenML, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Regression: an unreadable file was taken for damaged and quarantined."""
    machine.start()
    path = machine.cache / FILE
    message = f"cannot read {path}: Input/output error"
    if place != "fast":
        path.unlink()
        path = machine.cached("mnist_784.arff.gz" if place == "download" else "qualities/554.gz")
        message = f"{path} in scikit-learn's download cache cannot be read: Input/output error"
    content, original = path.read_bytes(), io.open

    def failing(file: object, *args: Any, **kwargs: Any) -> Any:
        if str(file) == str(path):
            raise OSError(5, "Input/output error", str(path))
        return original(file, *args, **kwargs)  # type: ignore[call-overload]

    for module in ("io", "builtins"):
        monkeypatch.setattr(f"{module}.open", failing)
    assert machine.fails() == message
    monkeypatch.undo()
    assert path.read_bytes() == content


@fuzzed()
@given(damage=damages())
def test_no_damage_to_the_fast_cache_is_learned_from(tmp_path: Path, damage: Damage) -> None:
    """The result is the original or an error."""
    fill(tmp_path, PIXELS, LABELS)
    path = tmp_path / FILE
    path.write_bytes(damage(path.read_bytes()))
    try:
        found = read(path, SMALL)
    except HandcnnError as error:
        message = str(error)
    else:  # bytes between the entries may change unnoticed
        np.testing.assert_array_equal(found.images, PIXELS.reshape(-1, 28, 28))
        np.testing.assert_array_equal(found.labels, LABELS)
        return
    assert message.startswith(f"{path} ")
    assert "\n" not in message


def test_pixels_that_differ_from_the_published_ones_are_a_warning_no_more(
    machine: Machine, server: OpenML
) -> None:
    other = replace(SMALL, sha256={**SMALL.sha256, "images": "0" * 64})
    warning = (
        "warning: the SHA-256 of the images differs from that of the published MNIST (rows and "
        "class counts agree); run.json records the one used"
    )
    machine.start(other)
    assert machine.said[2:] == [warning]
    machine.start(other)
    assert machine.said == [warning]


def test_fast_cache_that_cannot_be_written(machine: Machine, server: OpenML) -> None:
    machine.cache = machine.home.with_name("a\n\x1b")
    machine.cache.write_text("not a folder")
    machine.start()
    shown = machine.home.with_name("a\\n\\x1b") / FILE
    assert machine.said[2:] == [
        f"the fast cache {shown} cannot be written (File exists): training continues "
        "from memory, and the next start will parse MNIST again"
    ]


def test_auto_goes_on_with_the_digits_and_shouts(
    machine: Machine, server: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    places: dict[str, Any] = {"data_home": machine.home, "cache_dir": machine.cache}
    digits = load_dataset("auto", say=machine.said.append, **places)
    cause = f"{server.host} could not be reached (Connection refused)"
    assert digits.name == "digits"
    assert digits.record["instead_of_mnist_because"] == cause
    _, warning = machine.said
    assert warning.isascii()
    assert max(map(len, warning.splitlines())) == 78
    text = " ".join(warning.replace("*", " ").split())
    assert text.startswith(f"WARNING: THIS IS NOT MNIST MNIST is not available: {cause}. Training")
    with pytest.raises(HandcnnError) as caught:
        load_dataset("mnist", say=machine.said.append, **places)
    assert str(caught.value) == (
        f"MNIST is not available: {cause}. To get MNIST, connect to the network and start again, "
        "or point --data-home (or SCIKIT_LEARN_DATA) at a folder that already holds "
        "scikit-learn's copy of it. Or train on the bundled set: --dataset digits."
    )


def test_auto_takes_mnist_where_there_is_mnist(
    machine: Machine, server: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, "mnist", SMALL)
    found = load_dataset(
        "auto", data_home=machine.home, cache_dir=machine.cache, say=machine.said.append
    )
    assert found.name == "mnist"
    assert found.record["sizes"] == {"train": 20, "validation": 4, "test": 12}
    assert found.record["sha256"] == SMALL.sha256
    np.testing.assert_array_equal(found.test.images, PIXELS[24:].reshape(-1, 28, 28))
    np.testing.assert_array_equal(found.test.labels, LABELS[24:])


ABOUT: Any = ("name", "title", "source", "class_names", "openml")


@pytest.mark.parametrize("name", [name for name, known in CATALOGUE.items() if known.openml])
def test_every_data_set_of_openml_by_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With few images and no known hash, each is fetched by its name, checked and cached."""
    known = replace(SMALL, **{key: getattr(CATALOGUE[name], key) for key in ABOUT}, sha256={})
    monkeypatch.setitem(CATALOGUE, name, known)
    with serving(PIXELS, LABELS, known) as server:
        monkeypatch.setattr("data.openml.run", server.child())
        places: dict[str, Any] = {"data_home": machine.home, "cache_dir": machine.cache}
        load_dataset(name, say=machine.said.append, **places)
    assert server.requests == ["list", "description", "features", "qualities", "data"]
    found = load_dataset(name, say=machine.said.append, **places)
    assert len([said for said in machine.said if "the class" not in said]) == 2
    assert (found.name, found.address, found.title) == (name, name, known.title)
    assert found.class_names == found.record["class_names"] == list(known.class_names)
    assert found.record["sha256"] == SMALL.sha256
    np.testing.assert_array_equal(found.test.images, PIXELS[24:].reshape(-1, 28, 28))
    assert machine.files(machine.cache) == [f"{name}.npz"]


def test_parts_divided_in_another_way_where_the_order_is_not_known(
    machine: Machine, server: OpenML
) -> None:
    server.arff = arff(PIXELS[::-1], LABELS[::-1])
    known = replace(SMALL, sha256={})
    load_published(known, machine.home, machine.cache, machine.said.append)
    assert machine.said[2:] == [
        "warning: the last 12 images are not those published to test MNIST (all class "
        "counts agree); they are used for the test anyway"
    ]
    known = replace(known, train_counts=known.test_counts, test_counts=known.train_counts)
    machine.said.clear()
    load_published(known, machine.home, machine.cache, machine.said.append)
    assert machine.said == []
