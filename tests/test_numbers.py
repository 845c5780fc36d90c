"""Numbers in pictures: which digits are found, where, and in which order.

Oracle: the composition. Pictures are drawn from recorded strokes or from plain shapes, so every
digit and its place are known. The network is the judge's own, without its class for no digit.
"""

import io
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.drawing import load_strokes
from benchmarks.numbers import INK, compose, layers, load_writers, step
from data.catalogue import CATALOGUE
from handcnn import HandcnnError, Network, OutputLayer, load_network
from handcnn.commands import predict
from handcnn.models import network_name
from handcnn.pictures import Reading, prepare_picture, read_digits
from handcnn.pictures.numbers import reader
from handcnn.pictures.numbers.candidates import Row
from handcnn.pictures.numbers.cuts import pieces_of
from handcnn.pictures.numbers.frames import without_frames
from handcnn.pictures.numbers.judge import WEIGHTS
from handcnn.pictures.numbers.marks import rows_of
from handcnn.pictures.numbers.path import best_path
from handcnn.storage.networks import read_weights
from handcnn.types import Array

SIDE = 60  # pixels of a drawn digit's field
# Recorded drawings of each digit that fill their pad, by their number.
CLEAR = {"1": 2, "2": 3, "4": 3, "6": 3, "7": 3, "8": 3, "0": 3}


@pytest.fixture(scope="module")
def net() -> Network:
    judge = load_network(WEIGHTS)
    last = judge.layers[-1]
    assert isinstance(last, OutputLayer)
    output = OutputLayer(last.input_size, 10)
    output.weights, output.bias = last.weights[:, :10], last.bias[:, :10]
    return Network([*judge.layers[:-1], output], (1, 28, 28))


def draw(canvas: Image.Image, digit: str, x: int, y: int, side: int = SIDE, pen: int = 5) -> None:
    """Draw a recorded digit with its box's upper left corner at (x, y) and its height `side`."""
    strokes = load_strokes()[digit][CLEAR[digit]]
    points = np.concatenate([np.array(stroke) for stroke in strokes])
    low, factor = points.min(axis=0), side / np.ptp(points[:, 1])
    pencil = ImageDraw.Draw(canvas)
    for stroke in strokes:
        path = [tuple(point) for point in (np.array(stroke) - low) * factor + [x, y]]
        pencil.line(path, 0, pen, "curve")
        for px, py in path:
            pencil.ellipse((px - pen / 2, py - pen / 2, px + pen / 2, py + pen / 2), 0)


def number(rows: Sequence[str], slope: float = 0, gap: int = 80) -> tuple[Image.Image, Array]:
    """Return a picture of rows of digits, and the place of each digit."""
    longest = max(map(len, rows))
    canvas = Image.new("L", (gap * longest + 60, 110 * len(rows) + 160), 255)
    places = []
    for r, row in enumerate(rows):
        for k, digit in enumerate(row):
            x, y = 40 + gap * k + 15 * r, 80 + 110 * r + round(slope * gap * k)
            draw(canvas, digit, x, y)
            places.append((x, y))
    return canvas, np.array(places)


def read(net: Network, picture: Image.Image) -> Reading:
    return read_digits(net, np.asarray(picture))


@pytest.mark.parametrize("slope", [0, 0.15, -0.15])
@pytest.mark.parametrize("rows", [("7214",), ("4026", "71"), ("1", "8")])
def test_rows_are_read_from_top_to_bottom(
    net: Network, rows: tuple[str, ...], slope: float
) -> None:
    picture, places = number(rows, slope)
    reading = read(net, picture)
    assert reading.text == "\n".join(rows)
    assert [digit.row for digit in reading.digits] == [r for r, row in enumerate(rows) for _ in row]
    assert reading.left_out == 0
    corners = np.array([digit.box[:2] for digit in reading.digits])
    assert np.abs(corners - places).max() <= 6  # the pen and its blur
    heights = [digit.box[3] - digit.box[1] for digit in reading.digits]
    assert all(SIDE - 2 <= height <= SIDE + 12 for height in heights)


def test_a_long_row_is_read(net: Network) -> None:
    """Regression: of lines through so flat a picture, some start far outside (a ValueError)."""
    picture, _ = number(("7214721472147214",))
    assert read_digits(net, np.asarray(picture)[70:170]).text == "7214721472147214"


def test_light_digits_on_a_dark_picture_are_read_alike(net: Network) -> None:
    picture, _ = number(("7214",))
    assert read(net, Image.eval(picture, lambda grey: 255 - grey)).text == "7214"


def test_touching_digits_are_cut(net: Network) -> None:
    canvas = Image.new("L", (300, 160), 255)
    draw(canvas, "2", 60, 50)
    ends = np.flatnonzero((np.asarray(canvas) == 0).any(axis=0))[-1]
    draw(canvas, "0", int(ends), 50)
    assert read(net, canvas).text == "20"


def test_parts_of_a_broken_digit_belong_together(net: Network) -> None:
    picture, _ = number(("7214",))
    broken = np.array(picture)
    broken[100:103] = 255  # a third down
    assert read_digits(net, broken).text == "7214"


@pytest.mark.parametrize(("digit", "start", "end"), [("6", 20, 32), ("7", 30, 42), ("8", 30, 38)])
def test_a_single_digit_with_a_wide_gap_is_one(
    net: Network, digit: str, start: int, end: int
) -> None:
    """Its two parts alone look like digits, one above the other."""
    canvas = Image.new("L", (200, 200), 255)
    draw(canvas, digit, 60, 60)
    broken = np.array(canvas)
    broken[60 + start : 60 + end] = 255
    assert read_digits(net, broken).text == digit


def test_marks_that_are_no_digits_are_left_out_and_counted(net: Network) -> None:
    picture, _ = number(("7214",), gap=100)
    pencil = ImageDraw.Draw(picture)
    pencil.ellipse((215, 132, 223, 140), 0)  # a point
    pencil.line((4, 112, 18, 112), 0, 5)  # a minus sign
    reading = read(net, picture)
    assert reading.text == "7214"
    assert reading.left_out == 2


def form(text: str, together: bool, x: int, y: int, grey: int = 0) -> Image.Image:
    """Return digits in printed boxes, each at (x, y) from the corner of its box."""
    side, apart = 90, 90 if together else 104
    canvas = Image.new("L", (apart * len(text) + 80, side + 100), 255)
    for k, digit in enumerate(text):
        left = 40 + apart * k
        ImageDraw.Draw(canvas).rectangle((left, 50, left + side, 50 + side), None, grey, 2)
        draw(canvas, digit, left + x, 50 + y)
    return canvas


@pytest.mark.parametrize("angle", [0, 3])
@pytest.mark.parametrize(
    ("x", "y"), [(20, 15), (20, 40), (20, -8), (40, 15)], ids=["within", "below", "above", "right"]
)
@pytest.mark.parametrize("together", [True, False])
def test_printed_boxes_are_taken_away(
    net: Network, together: bool, x: int, y: int, angle: int
) -> None:
    """Also if the digits cross a line, and if the form lies aslant."""
    picture = form("7214", together, x, y)
    turned = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    reading = read(net, turned)
    assert (reading.text, reading.left_out) == ("7214", 0)
    heights = [digit.box[3] - digit.box[1] for digit in reading.digits]
    assert all(SIDE - 4 <= height <= SIDE + 14 for height in heights)


def test_only_boxes_with_ink_are_taken_away() -> None:
    """A 0 that is nearly a rectangle, and one as round as most, with a point inside."""
    canvas = Image.new("1", (300, 200))
    pencil = ImageDraw.Draw(canvas)
    pencil.rectangle((40, 40, 100, 140), None, 1, 6)
    pencil.ellipse((160, 40, 240, 140), None, 1, 6)
    pencil.ellipse((196, 70, 204, 115), 1)
    strokes = np.array(canvas)
    left, printed = without_frames(strokes)
    assert (left == strokes).all()
    assert not printed.any()
    pencil.line((70, 60, 70, 120), 1, 6)
    left, printed = without_frames(np.array(canvas))
    assert not left[:, :64].any()
    assert left[60:121, 68:74].all()
    assert (left[:, 120:] == strokes[:, 120:]).all()
    assert not (left & printed).any()


def test_one_digit_stays_one_and_is_prepared_as_before(net: Network) -> None:
    """Recorded drawings, of which some have several strokes."""
    for digit, drawings in load_strokes().items():
        for strokes in drawings[::4]:
            canvas = Image.new("L", (280, 280), 255)
            for stroke in strokes:
                ImageDraw.Draw(canvas).line([(2.8 * x, 2.8 * y) for x, y in stroke], 0, 18, "curve")
            reading = read(net, canvas)
            assert len(reading.digits) == 1, digit
            np.testing.assert_array_equal(
                reading.digits[0].image, prepare_picture(np.asarray(canvas))
            )


def test_a_page_of_marks_is_refused_in_a_sentence(net: Network) -> None:
    noise = np.random.default_rng(0).random((80, 80)) < 0.1
    page = np.repeat(np.repeat(255 * ~noise, 9, axis=0), 9, axis=1)
    with pytest.raises(HandcnnError, match=r"^the picture has .* marks; crop it to the number$"):
        read_digits(net, page)


def test_a_network_that_gives_no_probabilities(net: Network) -> None:
    output = net.layers[-1]
    assert isinstance(output, OutputLayer)
    endless = OutputLayer(output.input_size, 10)
    endless.weights, endless.bias = output.weights * np.float32(1e38), output.bias
    with np.errstate(all="ignore"), pytest.raises(HandcnnError, match="too large to compute with"):
        read(Network([*net.layers[:-1], endless], (1, 28, 28)), number(("71",))[0])


def test_rows_may_climb_and_have_gaps() -> None:
    """Two slanting rows of boxes, the lower one shorter: top, left, bottom, right."""
    upper = [(10 * k, 50 * k, 10 * k + 40, 50 * k + 30) for k in range(6)]
    lower = [(70 + 10 * k, 50 * k, 110 + 10 * k, 50 * k + 30) for k in (0, 1, 3)]
    order = np.random.default_rng(0).permutation(9)
    boxes = np.array([*upper, *lower])[order]
    found = [[int(order[i]) for i in row] for row in rows_of(boxes)]
    assert found == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]


def test_a_bridge_between_two_blocks_is_cut() -> None:
    ink = np.zeros((30, 50))
    ink[:, :20] = ink[:, 30:] = ink[14:16, 20:30] = 1
    pieces = pieces_of(ink, pen=2, most=1)
    assert (pieces[:, :20] == 0).all()
    assert (pieces[:, 30:] == 1).all()


def test_the_best_path_may_join_and_leave_out() -> None:
    """Oracle: the worth of all paths, by hand: 0+1 and 3 are digits, 2 is a low mark."""
    boxes = np.array([(0, 0, 20, 10), (0, 11, 20, 20), (17, 25, 20, 28), (0, 30, 20, 40)])
    empty = np.zeros((20, 40))
    row = Row(empty, None, empty, boxes, np.arange(4), height=20, pen=2, corner=(0, 0))
    odds = {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 6.0, (2, 3): -9.0, (2, 4): -3.0, (3, 4): 5.0}
    path = best_path(row, odds)
    assert path.digits == ((0, 2), (3, 4))
    assert path.left_out == (2,)


def test_json_has_boxes_in_pixels_of_the_picture_as_seen(
    net: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is four times as large and lies on its side, with a note that says so."""
    weights, path = tmp_path / "weights.npz", tmp_path / "turned.jpg"
    net.save(weights)
    picture, places = number(("7214",))
    large = picture.resize((4 * picture.width, 4 * picture.height))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it
    large.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    missing = tmp_path / "missing.png"
    code = predict.main([str(path), str(missing), "--json", "--weights", str(weights)])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert code == 1
    assert list(second) == ["picture", "text", "error"]
    assert (second["picture"], second["text"]) == (str(missing), "")
    assert second["error"] == f"{missing} does not exist; check the path"
    assert (first["picture"], first["text"]) == (str(path), "7214")
    digits = first["digits"]
    assert [digit["class"] for digit in digits] == list("7214")
    assert {digit["row"] for digit in digits} == {0}
    assert all(0 < digit["probability"] <= 1 for digit in digits)
    corners = np.array([digit["box"][:2] for digit in digits])
    assert np.abs(corners - 4 * places).max() <= 24


def test_a_number_is_printed_with_its_doubts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    net: Network,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, path = tmp_path / "weights.npz", tmp_path / "number.png"
    net.save(weights)
    number(("7214", "80"))[0].save(path)
    monkeypatch.setattr(reader, "DOUBTFUL", 1.1)  # any digit
    assert predict.main([str(path), "--weights", str(weights)]) == 0
    _, first, second, *doubts = capsys.readouterr().out.splitlines()
    assert first == f"{path}  7214"
    assert second.split()[0] == "80"
    assert [line.split()[:5] for line in doubts] == [
        ["digit", str(i), "may", "be", digit] for i, digit in enumerate("721480", 1)
    ]


def test_numbers_are_composed_as_the_benchmark_says() -> None:
    digits = np.zeros((3, 28, 28), np.uint8)
    digits[:, 4:24, 9:19] = 200
    for gap in (-3, 0, 8):
        steps = [step(digits[0], digits[1], gap)] * 2
        ink = layers(digits, steps, angle=0) > INK
        columns = ink.any(axis=1).sum(axis=0)  # how many digits have ink in a column
        first, last = np.flatnonzero(columns)[[0, -1]]
        inner = columns[first : last + 1]
        assert (inner == 0).sum() == 2 * max(gap, 0)
        assert (inner == 2).sum() == 2 * max(-gap, 0)
    tiles = compose(digits, "tiles", "level", np.random.default_rng(0))
    assert (tiles > 0).sum() == (digits > 0).sum()


def test_the_judge_is_the_one_in_its_record() -> None:
    """`make judge` writes both. Oracles: the SHA-256, and what the file says of itself."""
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    content = WEIGHTS.read_bytes()
    assert sha256(content).hexdigest() == record["sha256"]
    assert len(content) < 400_000
    net, metadata = read_weights(WEIGHTS)
    assert {name: metadata[name] for name in ("numbers", "seed")} == {
        name: record["recipe"][name] for name in ("numbers", "seed")
    }
    assert record["data"]["sha256"] == CATALOGUE["mnist"].sha256
    assert network_name(net) == record["network"]
    assert net.output_shapes()[-1] == (11,)


def test_every_validation_digit_has_one_writer() -> None:
    places = sorted(place for writer in load_writers() for place in writer)
    assert places == list(range(5000))


def test_standard_input_has_boxes_too(
    net: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, file = tmp_path / "weights.npz", io.BytesIO()
    net.save(weights)
    number(("71",))[0].save(file, "PNG")
    file.seek(0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
    monkeypatch.setattr(predict, "waits", lambda _: True)
    assert predict.main(["-", "--json", "--weights", str(weights)]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "71"
