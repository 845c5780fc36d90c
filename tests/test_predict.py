"""predict.py as a user runs it: its answers, messages and exit codes.

Oracles: the answer for the same picture given as a file; whole sentences; characters that a
terminal must not receive. test_pictures.py tests bad pictures, test_options.py bad options.
"""

import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from builders import NO_PICTURE
from PIL import Image

from handcnn import Conv2D, HiddenLayer, Network, OutputLayer, documented_network, load_network
from handcnn.commands import predict
from handcnn.pictures import Tile, load_picture, prepare_picture, read_digits, save_sheet
from handcnn.text import one_line, percent

SEVEN = Path(__file__).parent.parent / "docs" / "seven.jpg"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.npz"
    documented_network(rng=np.random.default_rng(0)).save(path)
    return path


@pytest.fixture(autouse=True)
def _warnings_stay_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the program from silencing warnings, as it does for users."""
    monkeypatch.setattr(sys, "warnoptions", ["error"])


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
    return file


def answer(out: str) -> str:
    """Return the digit and the probabilities, without the file name."""
    return out.splitlines()[1].split("  ", 1)[1].strip()


def test_a_picture_from_standard_input_is_read_like_a_file(
    weights: Path, stdin: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin.write(SEVEN.read_bytes())
    stdin.seek(0)
    assert predict.main([str(SEVEN), "--weights", str(weights)]) == 0
    from_file = capsys.readouterr().out
    assert predict.main(["-", "--weights", str(weights)]) == 0
    from_stdin = capsys.readouterr().out
    assert from_stdin.splitlines()[1].startswith("-  ")
    assert answer(from_stdin) == answer(from_file)


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        (0, "is empty; save the picture again"),
        (1000, NO_PICTURE),
        (100_000_001, "holds more than 100 MB; make the picture smaller"),
    ],
)
def test_standard_input_that_is_no_picture(
    weights: Path, stdin: io.BytesIO, size: int, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin.write(bytes(size))
    stdin.seek(0)
    assert predict.main(["-", "--weights", str(weights)]) == 1
    assert capsys.readouterr().err == f"predict.py: standard input {fault}\n"


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_weights_too_large_to_compute_with(
    tmp_path: Path, size: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are finite, so they load. Warnings are errors here."""
    net = documented_network(rng=np.random.default_rng(0))
    for array in net.parameters().values():
        array[...] = size
    path = tmp_path / "weights.npz"
    net.save(path)
    assert predict.main([str(SEVEN), "--weights", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "%" not in out
    assert err == (
        f"predict.py: {SEVEN}: the network gives no probabilities: its numbers are too large to "
        "compute with; use other weights\n"
    )


def test_text_from_outside_does_not_reach_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences and line breaks in a picture's name, in the weights, in their file name."""
    weights, picture, missing = (tmp_path / f"{n}\x1b[2J\n.x" for n in ("w", "p", "m"))
    net = documented_network(rng=np.random.default_rng(0))
    net.save(weights, dataset="\x1b]0;title\x07\n" + "a" * 10**6, epoch=1, val_accuracy=0.5)
    picture.write_bytes(SEVEN.read_bytes())
    assert predict.main([str(picture), str(missing), "--weights", str(weights)]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 2
    assert err.count("\n") == 1
    assert (out + err).replace("\n", "").isprintable()
    assert len(out + err) < 3000

    net.save(weights, dataset="mnist", epoch=10**4000, val_accuracy=1e300)
    assert predict.main([str(picture), "--weights", str(weights)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 1000


@pytest.mark.parametrize(
    ("net", "fault"),
    [
        (
            Network([OutputLayer(5, 3)]),
            "its network takes inputs of shape None, not images (C, H, W)",
        ),
        (
            documented_network(input_shape=(1, 8, 8)),
            "its network takes images of shape (1, 8, 8); prepared pictures have (1, 28, 28)",
        ),
        (
            Network([Conv2D(1, 2, 3)], (1, 28, 28)),
            "its network gives no probabilities: its last layer is Conv2D(1 -> 2, 3x3), no "
            "OutputLayer",
        ),
        (
            Network([Conv2D(1, 2, 3), HiddenLayer(2 * 26 * 26, 10)], (1, 28, 28)),
            "its network gives no probabilities: its last layer is HiddenLayer(1352 -> 10), no "
            "OutputLayer",
        ),
    ],
)
def test_weights_that_read_no_pictures(
    tmp_path: Path, net: Network, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.npz"
    net.save(path)
    assert predict.main(["picture.png", "--weights", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"predict.py: {path} cannot be used: {fault}\n"


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["ant", "bee\x1b[2J", "cat"], ["ant", "bee\\x1b[2J", "cat"]),
        (["ant", "bee"], ["0", "1", "2"]),
        (["ant", "bee", 3], ["0", "1", "2"]),
        ("abc", ["0", "1", "2"]),
        (None, ["0", "1", "2"]),
    ],
)
def test_classes_have_the_names_saved_with_the_weights(
    tmp_path: Path, classes: object, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The output bias determines the order: the third class, the first, the second."""
    net = documented_network(classes=3, rng=np.random.default_rng(0))
    net.layers[-1].bias[0] = [1, 0, 2]  # type: ignore[attr-defined]
    path = tmp_path / "weights.npz"
    net.save(path, classes=classes)
    assert predict.main([str(SEVEN), "--weights", str(path)]) == 0
    first, rest = answer(capsys.readouterr().out).split("   then ")
    found = [first.split()[0], *(runner_up.split()[0] for runner_up in rest.split(", "))]
    assert found == [names[2], names[0], names[1]]


def test_the_sheet_shows_every_picture_and_its_answer(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: a sheet made of the tiles that the printed lines describe."""
    two, show, expected = (tmp_path / name for name in ("two.png", "show.png", "expected.png"))
    with Image.open(SEVEN) as seven:
        width, height = seven.size
        both = Image.new("RGB", (2 * width, height))
        both.paste(seven)
        both.paste(seven, (width, 0))
        both.save(two)
    missing = tmp_path / "m\n.png"
    pictures = [str(two), str(missing), str(SEVEN)]
    assert predict.main([*pictures, "--weights", str(weights), "--show", str(show)]) == 1
    out, err = capsys.readouterr()
    assert err == f"predict.py: {one_line(missing)} does not exist; check the path\n"
    _, first, *doubts, last, written = out.splitlines()
    assert len(doubts) == 2  # the network is not trained
    assert written == f"what the network saw: {show}"
    (number, probability), (digit, chance) = (
        re.findall(r"  (\d+)  +(.*? %)(?:   then|$)", line)[0] for line in (first, last)
    )
    reading = read_digits(load_network(weights), load_picture(two))
    left, right = reading.digits
    tiles = [
        Tile("two.png", load_picture(two), number, probability, [left.box, right.box]),
        Tile("two.png", left.image, number[0], percent(left.probability)),
        Tile("two.png", right.image, number[1], percent(right.probability)),
        Tile("m\n.png"),
        Tile("seven.jpg", prepare_picture(load_picture(SEVEN)), digit, chance),
    ]
    save_sheet(expected, tiles)
    assert show.read_bytes() == expected.read_bytes()
    assert predict.main([str(missing), "--weights", str(weights), "--show", str(show)]) == 1
    save_sheet(expected, [tiles[3]])  # even if none can be read
    assert show.read_bytes() == expected.read_bytes()


def test_what_is_no_digit_may_come_in_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, trousers = tmp_path / "weights.npz", tmp_path / "trousers.png"
    legs = np.repeat([[0, 200, 0, 200, 0]], 9, axis=0).astype(np.uint8)
    Image.fromarray(legs).resize((99, 90)).save(trousers)
    for names, count in ((list("0123456789"), 2), (list("abcdefghij"), 1)):
        documented_network(rng=np.random.default_rng(0)).save(path, classes=names)
        assert predict.main([str(trousers), "--weights", str(path)]) == 0
        assert len(answer(capsys.readouterr().out).split()[0]) == count


def test_a_path_that_cannot_be_written_is_told_on_one_short_line(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = tmp_path / ("\x1b[2J\n" + "f" * 200) / ("\x1b[2J\n" + "s" * 249)
    show.parent.mkdir()
    for number, advice in (
        (errno.ENOSPC, "No space left on device; free some disk space"),
        (errno.ENAMETOOLONG, "File name too long; choose a shorter name"),
        (errno.EIO, "Input/output error; check that its folder exists and is writable"),
        (
            errno.EMFILE,
            "Too many open files; close other programs, or raise the limit of open files (ulimit "
            "-n)",
        ),
    ):
        fault = OSError(number, os.strerror(number))
        monkeypatch.setattr("os.fsync", Mock(side_effect=fault))
        assert predict.main([str(SEVEN), "--weights", str(weights), "--show", str(show)]) == 1
        assert capsys.readouterr().err == f"predict.py: {one_line(show)}: {advice}\n"


def test_the_weights_that_are_found_are_not_overwritten(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Regression: a PNG replaced them, and the exit code was 0."""
    monkeypatch.chdir(tmp_path)
    found = Path("outputs", "20240101-000000-digits", "weights.npz")
    found.parent.mkdir(parents=True)
    before = weights.rename(found).read_bytes()
    with pytest.raises(SystemExit) as caught:
        predict.main([str(SEVEN), "--show", str(found)])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"predict.py: --show: '{found}' is a file that is not a PNG; see predict.py --help\n"
    )
    assert found.read_bytes() == before
    for _ in range(2):  # the first PNG is replaced
        assert predict.main([str(SEVEN), "--show", "seen.png"]) == 0


@pytest.mark.skipif(os.name != "posix", reason="needs links and the descriptors of POSIX")
def test_a_circle_of_links_is_a_picture_that_cannot_be_read(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: a traceback from Path.resolve."""
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    options = ["--weights", str(weights), "--show", str(tmp_path / "seen.png")]
    assert predict.main([str(loop), str(SEVEN), *options]) == 1
    assert capsys.readouterr().err == (
        f"predict.py: {loop} cannot be read: Too many levels of symbolic links; check the path\n"
    )
    assert (tmp_path / "seen.png").is_file()


def test_a_file_whose_name_stands_for_standard_input(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(SEVEN.read_bytes())
    monkeypatch.setattr(sys, "stdin", None)  # must not be read
    assert predict.main([str(SEVEN), "--weights", str(weights)]) == 0
    expected = answer(capsys.readouterr().out)
    assert predict.main(["./-", "--weights", str(weights)]) == 0
    assert answer(capsys.readouterr().out) == expected


@pytest.mark.skipif(os.name != "posix", reason="needs links and the descriptors of POSIX")
@pytest.mark.parametrize(
    ("redirection", "fault"),
    [
        ("<&-", "is closed; redirect a picture to it"),
        ("0>file", "cannot be read: Bad file descriptor"),
        ("non-blocking", "is non-blocking; save the picture in a file first"),
    ],
)
def test_standard_input_that_cannot_be_read(
    weights: Path, tmp_path: Path, redirection: str, fault: str
) -> None:
    """The other picture is read. Regression: tracebacks and a wrong message."""
    program = [sys.executable, str(SEVEN.parents[1] / "predict.py")]
    arguments = [*program, "-", str(SEVEN), "--weights", str(weights)]
    reader, writer = os.pipe()
    if redirection == "non-blocking":
        os.set_blocking(reader, False)
    else:
        arguments = ["sh", "-c", f'exec "$@" {redirection}', "sh", *arguments]
    os.write(writer, SEVEN.read_bytes()[:100])
    done = subprocess.run(
        arguments, cwd=tmp_path, stdin=reader, capture_output=True, text=True, check=False
    )
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, f"predict.py: standard input {fault}\n")
    assert f"\n{SEVEN}  " in done.stdout
