"""The five plots of a run.

Oracles: the input, read back from the artists of the figure (lines, images, texts) and compared
with values computed by hand or by loops; the renderer's bounding boxes, for clipping and overlap;
Pillow for the files; a second process for global settings.
"""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from handcnn import (
    Conv2D,
    HiddenLayer,
    InputLayer,
    MaxPool2D,
    Network,
    OutputLayer,
    ReLU,
    documented_network,
    plots,
)
from handcnn.errors import HandcnnError
from handcnn.models import deep, lenet
from handcnn.text import percent
from handcnn.types import Array

TITLE = "digits (NOT MNIST)"
MINUS = "\N{MINUS SIGN}"
History = list[dict[str, float]]


# Builders ----------------------------------------------------------------------------------------


def history_of(epochs: int, *, start: float = 0.7656) -> History:
    """Return a history like that of MNIST: a poor first value, then smaller and smaller steps."""
    rng = np.random.default_rng(0)
    return [
        {
            "epoch": epoch,
            "loss": 0.7 if epoch == 1 else 0.16 / epoch,
            "accuracy": start if epoch == 1 else 0.985 - 0.05 / epoch + 0.014 * (epoch / epochs),
            "val_loss": 0.085 + 0.13 / epoch + 0.0003 * epoch + rng.normal(0, 0.002),
            "val_accuracy": 0.978 - 0.045 / epoch + rng.normal(0, 0.0007),
        }
        for epoch in range(1, epochs + 1)
    ]


def constant_history(epochs: int, accuracy: float, loss: float) -> History:
    row = {"loss": loss, "accuracy": accuracy, "val_loss": loss, "val_accuracy": accuracy}
    return [{"epoch": epoch} | row for epoch in range(1, epochs + 1)]


def convolution(
    channels: int = 1, filters: int = 5, kernel: int = 3, stride: int = 1
) -> tuple[Network, Conv2D]:
    """Return a network with one convolution, and that convolution."""
    rng = np.random.default_rng(3)
    conv = Conv2D(channels, filters, kernel, stride, padding=1, rng=rng, dtype=np.float64)
    return Network([InputLayer(), conv], input_shape=(channels, 28, 28)), conv


def digit() -> Array:
    return np.random.default_rng(5).integers(0, 256, (28, 28), dtype=np.uint8)


def answers(*rows: tuple[int, float], classes: int = 10) -> Array:
    """Return probabilities for (class, confidence) pairs; the rest is divided evenly."""
    probabilities = np.empty((len(rows), classes))
    for row, (answer, confidence) in zip(probabilities, rows, strict=True):
        row[:] = (1 - confidence) / (classes - 1)
        row[answer] = confidence
    return probabilities


NAMES = ["T-shirt/top", "trouser", "pullover", "dress", "coat"]
NAMES += ["sandal", "shirt", "sneaker", "bag", "ankle boot"]
LONG = "the name of a class that is far too long for any figure"


RUN = (
    "lenet, --epochs 100 --batch-size 128 --learning-rate 0.0005 --schedule constant "
    "--augment distort --seed 12345"
)


def all_figures(run: str = "", *, distorted: bool = False) -> dict[str, Figure]:
    labels = np.arange(40) % 10
    probabilities = answers(*(((i * 7) % 10, 0.5 + 0.01 * i) for i in range(10))).repeat(4, axis=0)
    counts = np.diag(np.arange(10) * 50) + np.arange(100).reshape(10, 10) % 7
    images = np.random.default_rng(2).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    net, _ = convolution(filters=32)
    return {
        "accuracy": plots.plot_accuracy(history_of(10), TITLE, 0.97, run=run, distorted=distorted),
        "loss": plots.plot_loss(history_of(10), TITLE, 0.1, run=run, distorted=distorted),
        "confusion matrix": plots.plot_confusion_matrix(counts, TITLE, run=run),
        "worst mistakes": plots.plot_mistakes(images, labels, probabilities, TITLE, run=run),
        "filters of Conv2D(1 \N{RIGHTWARDS ARROW} 32, 3x3, padding 1)": plots.plot_filters(
            net, digit(), TITLE, run=run
        ),
    }


# What is read back from a figure -----------------------------------------------------------------


def texts_of(figure: Figure) -> list[Text]:
    """Return every text that is drawn, including axis labels if they are visible."""
    texts: list[Text] = []
    for axes in figure.axes:
        texts += axes.texts
        if axes.axison:
            texts += [*axes.get_xticklabels(), *axes.get_yticklabels(), *legend_of(axes)]
            texts += [axes.xaxis.label, axes.yaxis.label]
    return [text for text in texts if text.get_visible() and text.get_text()]


def legend_of(axes: Axes) -> list[Text]:
    legend = axes.get_legend()
    assert legend is not None
    return legend.get_texts()


def said(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts_of(figure)]


def images_of(figure: Figure) -> list[AxesImage]:
    return [image for axes in figure.axes for image in axes.images]


def pixels(image: AxesImage) -> Array:
    return np.asarray(image.get_array(), float)


def curves(figure: Figure) -> Axes:
    (axes,) = (axes for axes in figure.axes if axes.axison)
    return axes


def lines(figure: Figure) -> dict[str, Array]:
    """Return the points (n, 2) of every line and mark by the first word of its label."""
    return {
        str(line.get_label()).split()[0]: np.asarray(line.get_xydata())
        for line in curves(figure).lines
    }


def check_layout(figure: Figure) -> None:
    """Nothing lies outside the figure; no text overlaps a text, an image or the axes."""
    figure.canvas.draw()
    texts = [(text, text.get_window_extent()) for text in texts_of(figure)]
    images = [image.get_window_extent() for image in images_of(figure)]
    for box, what in [(box, text.get_text()) for text, box in texts] + [
        (box, "an image") for box in images
    ]:
        inside = min(box.x0, box.y0) >= 0
        inside &= box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside, f"{what!r} is clipped"
    for text, _ in texts:
        assert float(text.get_fontsize()) >= 8, text.get_text()
    for (a, box), (b, other) in itertools.combinations(texts, 2):
        assert not box.overlaps(other), f"{a.get_text()!r} lies over {b.get_text()!r}"
    obstacles = images + [axes.bbox for axes in figure.axes if axes.axison]
    for (text, box), obstacle in itertools.product(texts, obstacles):
        assert not box.overlaps(obstacle), f"{text.get_text()!r} lies over an image or a curve"
    for axes in (axes for axes in figure.axes if axes.axison):
        bottom = min(text.get_window_extent().y0 for text in legend_of(axes))
        assert bottom > axes.bbox.y1 + 15, "a curve that leaves the axes runs into the legend"


def test_layout_checker_notices_overlap_and_clipping() -> None:
    figure = plots.plot_accuracy(history_of(3), TITLE)
    page = figure.axes[0]
    text = page.text(60, 40, "over the heading")
    with pytest.raises(AssertionError, match="over the heading"):
        check_layout(figure)
    text.remove()
    check_layout(figure)
    page.text(-50, 300, "partly outside")
    with pytest.raises(AssertionError, match="clipped"):
        check_layout(figure)


# Files -------------------------------------------------------------------------------------------

IN_ANOTHER_PROCESS = """
import pathlib, sys
import matplotlib

def settings():
    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}

before = settings()
sys.path[:0] = sys.argv[2:]
import test_plots
test_plots.write_all(pathlib.Path(sys.argv[1]))
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""


def write_all(folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    for name, figure in all_figures().items():
        plots.save_figure(folder / f"{name.split()[0]}.png", figure)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_png_of_the_same_bytes_in_another_process_which_stays_clean(
    tmp_path: Path,
) -> None:
    tests, there = Path(__file__).parent, tmp_path / "there"
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        IN_ANOTHER_PROCESS,
    ]
    subprocess.run([*command, str(there), str(tests), str(tests.parent)], check=True)
    here = write_all(tmp_path / "here")
    assert len(here) == 5
    assert {path.name: path.read_bytes() for path in there.iterdir()} == here
    for path in there.iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert 1000 <= image.width <= 1430  # fits a screen
            assert 600 <= image.height <= 800
            assert set(image.info) == {"dpi"}  # no date, no version
        assert path.stat().st_size < 300_000


SETTINGS: Any = {
    "text.usetex": True,  # fails without LaTeX
    "font.family": "monospace",
    "savefig.bbox": "tight",
    "figure.autolayout": True,
    "axes.xmargin": 0.3,
    "lines.linewidth": 9.0,
    "path.sketch": (5.0, 100.0, 2.0),
    "image.cmap": "hot",
    "axes.formatter.use_locale": True,
}


def test_no_setting_of_matplotlib_changes_a_plot_or_is_changed(tmp_path: Path) -> None:
    """Regression: a plot had the user's fonts and margins, or needed LaTeX."""
    for name, figure in all_figures().items():
        plots.save_figure(tmp_path / f"{name}.png", figure)
    with matplotlib.rc_context(SETTINGS):
        before = dict(matplotlib.rcParams)
        figures = all_figures()
        for name, figure in figures.items():
            plots.save_figure(tmp_path / "again.png", figure)
            expected = (tmp_path / f"{name}.png").read_bytes()
            assert (tmp_path / "again.png").read_bytes() == expected, name
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("run", ["", RUN, "lenet " * 99])
def test_every_plot_names_its_data_and_its_run_and_nothing_overlaps(run: str) -> None:
    for name, figure in all_figures(run).items():
        assert said(figure)[0] == f"{TITLE}: {name}"
        if run == RUN:
            assert said(figure)[1] == RUN
        assert not any(text.startswith("-") for text in said(figure))
        check_layout(figure)


def test_the_curves_of_a_run_with_distortion_say_why_training_lies_behind() -> None:
    for run in ("", RUN):
        plain, distorted = all_figures(run), all_figures(run, distorted=True)
        for name, place in {"accuracy": "below", "loss": "above"}.items():
            (note,) = set(said(distorted[name])) - set(said(plain[name]))
            assert note == (
                "Training images are distorted and harder to read than those of validation, so "
                f"training may lie {place} validation."
            )
            check_layout(distorted[name])


# Numbers that cannot be plotted -------------------------------------------------------------------


def drawn_with(place: str, value: Any) -> Figure:
    """Return the figure for valid numbers except one."""
    history, matrix, probabilities = history_of(5), np.eye(3), answers((1, 0.9))
    match place:
        case "test accuracy":
            return plots.plot_accuracy(history, TITLE, value)
        case "test loss":
            return plots.plot_loss(history, TITLE, value)
        case "count":
            matrix = matrix.astype(value.dtype)
            matrix[0, 1] = value
            return plots.plot_confusion_matrix(matrix, TITLE)
        case "probability":
            probabilities = probabilities.astype(value.dtype)
            probabilities[0, 0] = value
            return plots.plot_mistakes(digit()[None], np.array([1]), probabilities, TITLE)
        case "weight" | "pixel":
            conv = Conv2D(1, 1, 1, dtype=value.dtype)
            conv.weights[:] = value if place == "weight" else 1
            image = digit() if place == "weight" else np.full((28, 28), value)
            return plots.plot_filters(Network([conv], input_shape=(1, 28, 28)), image, TITLE)
        case _:
            history[2][place] = value
            draw = plots.plot_loss if "loss" in place else plots.plot_accuracy
            return draw(history, TITLE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [3e38, -3e38, 1.7e308, np.inf, np.nan])
@pytest.mark.parametrize(
    ("places", "name", "allowed"),
    [
        ("accuracy, val_accuracy, test accuracy", "values of accuracy", "0 to 1"),
        ("loss, val_loss, test loss", "values of loss", "0 to 1000"),
        ("epoch", "epochs", "0 to 100000"),
        ("count", "counts", "0 to 1000000"),
        ("probability", "probabilities", "0 to 1"),
        ("weight", "weights", "-1e+30 to 1e+30"),
        ("pixel", "responses", "-1e+30 to 1e+30"),
    ],
)
def test_numbers_that_cannot_be_plotted_are_refused(
    places: str, name: str, allowed: str, value: float, dtype: type
) -> None:
    """With a sentence, not with a NumPy warning or a matplotlib error."""
    with np.errstate(over="ignore"):
        number = dtype(value)
    for place in places.split(", "):
        with pytest.raises(HandcnnError) as caught:
            drawn_with(place, number)
        assert str(caught.value) == (
            f"the {name} to plot must be numbers from {allowed}, got {number:g}"
        )


def test_the_largest_numbers_that_can_be_drawn_have_room() -> None:
    for place, value in {"loss": 1000, "test loss": 1000, "weight": -1e30}.items():
        check_layout(drawn_with(place, np.float64(value)))


@pytest.mark.parametrize("value", [-3e38, 3e38, np.inf])
def test_pixels_of_any_size_are_black_or_white(value: float) -> None:
    images = np.full((1, 28, 28), value, np.float32)
    (tile,) = images_of(plots.plot_mistakes(images, np.array([2]), answers((1, 0.9)), TITLE))
    np.testing.assert_allclose(pixels(tile), 0.95 if value < 0 else 0, rtol=1e-6)


# Curves ------------------------------------------------------------------------------------------


def both_curves(
    history: History, accuracy: float | None = None, loss: float | None = None
) -> Iterator[tuple[Figure, str, float]]:
    """Yield each figure with the name of its values in the history and their factor."""
    yield plots.plot_accuracy(history, TITLE, accuracy), "accuracy", 100
    yield plots.plot_loss(history, TITLE, loss), "loss", 1


RUNS = {f"{n} epochs": history_of(n) for n in (1, 2, 3, 10, 16, 30, 41, 200, 1234)}
RUNS |= {
    "learns nothing": constant_history(5, 0.1, 2.302585),
    "perfect": constant_history(15, 1.0, 0.0),
    "terrible loss": constant_history(3, 0.0, 34.5),
    "slow start": history_of(10, start=0.92),
}


@pytest.mark.parametrize("run", RUNS)
def test_curves_hold_the_history_and_nothing_overlaps(run: str) -> None:
    history = RUNS[run]
    for figure, key, factor in both_curves(
        history, history[0]["val_accuracy"], history[0]["val_loss"]
    ):
        check_layout(figure)
        assert "Dashed: the best epoch, whose weights are kept." in said(figure)[1]
        for name, column in (("training", key), ("validation", f"val_{key}")):
            expected = [(row["epoch"], factor * row[column]) for row in history]
            np.testing.assert_allclose(lines(figure)[name], expected, rtol=1e-12)


@pytest.mark.parametrize(("epochs", "per_epoch"), [(1, 100), (2, 860), (12, 37), (3, 4)])
def test_a_short_run_is_drawn_inside_its_epochs(epochs: int, per_epoch: int) -> None:
    """Points are means of the steps that they stand for, at the place of the last of these."""
    steps = np.random.default_rng(0).random((epochs * per_epoch, 2))
    history = history_of(epochs)
    for plot, column, factor in ((plots.plot_loss, 0, 1), (plots.plot_accuracy, 1, 100)):
        figure = plot(history, TITLE, 0.9, run=RUN, steps=steps)
        check_layout(figure)
        points = lines(figure)["_inside"]
        assert len(points) == epochs * min(10, per_epoch)
        start = 0
        for at, value in points:
            end = round(at * per_epoch)
            assert at * per_epoch == pytest.approx(end)
            assert value == pytest.approx(factor * steps[start:end, column].mean())
            start = end
        assert start == len(steps)
        assert [x for x, _ in lines(figure)["training"]] == [row["epoch"] for row in history]
    figure = plots.plot_loss(history_of(13), TITLE, steps=np.zeros((130, 2)))
    assert "_inside" not in lines(figure)


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 2, *[st.floats(0, 34.5)] * 2), min_size=1, max_size=60),
    st.none() | st.floats(0, 1),
)
@settings(max_examples=30)
def test_the_axes_hold_all_but_the_steep_start(
    rows: list[tuple[float, ...]], test: float | None
) -> None:
    names = ("accuracy", "val_accuracy", "loss", "val_loss")
    history = [
        {"epoch": epoch} | dict(zip(names, row, strict=True)) for epoch, row in enumerate(rows, 1)
    ]
    for figure, key, factor in both_curves(history, test, test):
        axes = curves(figure)
        low, high = axes.get_ylim()
        start = len(history) // 20
        training = [factor * row[key] for row in history]
        validation = [factor * row[f"val_{key}"] for row in history]
        values = training[max(start, 1) :] + validation[start:]
        values += [] if test is None else [factor * test]
        if len(history) <= 2:
            values.append(training[0])
        assert low < min(values)
        assert max(values) < high
        assert axes.get_xlim()[0] < 1 <= len(history) < axes.get_xlim()[1]
        assert all(0 <= tick <= (100 if key == "accuracy" else high) for tick in axes.get_yticks())
        notes = [text for text in said(figure) if text.startswith("Outside the axis in epoch 1: ")]
        for name, value in (("training", training[0]), ("validation", validation[0])):
            assert (not low <= value <= high) == any(name in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "low", "high", "notes"),
    [
        ({}, 90, 97, ["Outside the axis in epoch 1: training 76.56 %"]),
        ({0: 0.92}, 88, 92, []),  # a start that fits stays in
        ({1: 0.5}, 0, 50, []),  # only the first value of a short run is left out
    ],
    ids=["steep", "fits", "second epoch"],
)
def test_a_steep_start_is_left_out_and_said(
    changes: dict[int, float], low: float, high: float, notes: list[str]
) -> None:
    history = history_of(10)  # training: 76.56 % in epoch 1, then always more than 95 %
    for row, accuracy in changes.items():
        history[row]["accuracy"] = accuracy
    figure = plots.plot_accuracy(history, TITLE)
    assert low < curves(figure).get_ylim()[0] < high
    assert [text for text in said(figure) if "Outside" in text] == notes


def test_legend_has_last_values_the_best_epoch_and_the_test() -> None:
    history = constant_history(4, 0.5, 1.0)
    history[1] |= {"val_accuracy": 0.97654, "val_loss": 0.25}
    history[2] |= {"val_accuracy": 0.97654, "val_loss": 0.125}  # as accurate, with a lower loss
    history[3] |= {"val_accuracy": 0.97012, "accuracy": 0.98761, "val_loss": 0.0625, "loss": 0.03}
    accuracy = ["training 98.76 %", "validation 97.01 %", "best epoch (3) 97.65 %"]
    loss = ["training 0.0300", "validation 0.0625", "best epoch (3) 0.1250"]
    for figure, expected in (
        (plots.plot_accuracy(history, TITLE), accuracy),
        (plots.plot_accuracy(history, TITLE, 0.9728), [*accuracy, "test 97.28 %"]),
        (plots.plot_accuracy(history, TITLE, 0.0), [*accuracy, "test 0.00 %"]),
        (plots.plot_loss(history, TITLE), loss),
        (plots.plot_loss(history, TITLE, 0.09712), [*loss, "test 0.0971"]),
    ):
        assert [text.get_text() for text in legend_of(curves(figure))] == expected
        assert ("test" in lines(figure)) == (len(expected) == 4)
    np.testing.assert_allclose(lines(figure)["best"], [[3, 0.125]])
    np.testing.assert_allclose(lines(figure)["test"], [[3, 0.09712]])


def test_an_accuracy_is_rounded_to_certainty_only_if_it_is_certain() -> None:
    history = constant_history(2, 1.0, 0.1)
    history[1]["accuracy"] = 59_999 / 60_000
    labels = [text.get_text() for text in legend_of(curves(plots.plot_accuracy(history, TITLE)))]
    assert labels[:2] == ["training > 99.99 %", "validation 100.00 %"]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [1]),
        (3, [1, 2, 3]),
        (15, list(range(1, 16))),
        (30, [1, 5, 10, 15, 20, 25, 30]),
        (200, [1, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200]),
    ],
)
def test_ticks_are_whole_epochs(epochs: int, expected: list[int]) -> None:
    axes = curves(plots.plot_loss(history_of(epochs), TITLE))
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(n) for n in expected]
    np.testing.assert_array_equal(axes.get_xticks(), expected)


# Confusion matrix --------------------------------------------------------------------------------


def test_confusion_matrix_colours_errors_and_not_the_diagonal() -> None:
    matrix = np.array([[500, 2, 0], [4, 900, 1], [0, 0, 7]])
    (mesh,) = plots.plot_confusion_matrix(matrix, TITLE).axes[0].collections
    colours = np.asarray(mesh.get_array()).reshape(3, 3, 3)
    diagonal = colours[np.arange(3), np.arange(3)]
    assert (diagonal == diagonal[0, 0]).all()  # the same grey for every count
    assert 0.8 < diagonal[0, 0] < 0.95
    assert (colours[matrix == 0] == 1).all()  # white
    darkness = 1 - colours.mean(axis=-1)
    assert darkness[1, 0] > darkness[0, 1] > darkness[1, 2] > 0
    assert np.ptp(colours[1, 0]) > 0.3  # a colour, not a grey


def test_confusion_matrix_says_every_count_where_it_belongs() -> None:
    matrix = np.array([[11, 12, 13], [14, 15, 16], [17, 18, 19]])
    texts = texts_of(plots.plot_confusion_matrix(matrix, TITLE, ["a", "b", "c"]))
    # Reversed, because the colour bar, drawn last, repeats the worst count.
    places = {text.get_text(): text.get_position() for text in reversed(texts)}
    x, y = np.array([[places[str(count)] for count in row] for row in matrix]).transpose(2, 0, 1)
    assert (x == x[0]).all()
    assert (y == y[:, :1]).all()
    assert x[0, 0] < x[0, 1] < x[0, 2]
    assert y[0, 0] < y[1, 0] < y[2, 0]  # y points down
    names = [text.get_position() for text in texts if text.get_text() in "abc"]
    assert sorted({place[0] for place in names})[1:] == list(x[0])  # the first is left of them
    assert sorted({place[1] for place in names})[1:] == list(y[:, 0])


def test_confusion_matrix_by_hand() -> None:
    matrix = np.array([[3000, 1000, 0], [0, 0, 0], [2000, 0, 2000]])
    texts = texts_of(plots.plot_confusion_matrix(matrix, TITLE, ["cat", "dog", "owl"]))
    words = [text.get_text() for text in texts]
    assert words[1] == (
        "5,000 of 8,000 right (62.50 %), 3,000 wrong. "
        "Recall: the share of a row that is right. Precision: of a column."
    )
    assert words.count("2,000") == 3  # two cells and the end of the colour bar
    assert all(words.count(name) == 2 for name in ("cat", "dog", "owl"))
    place = {text.get_text(): text.get_position() for text in texts}
    shares = [text for text in texts[2:] if text.get_text().endswith((" %", "\N{EN DASH}"))]
    row = [text.get_text() for text in shares if text.get_position()[1] == place["precision"][1]]
    column = [text.get_text() for text in shares if text.get_position()[0] == place["recall"][0]]
    assert row == ["60.00 %", "0.00 %", "100.00 %"]
    assert column == ["75.00 %", "\N{EN DASH}", "50.00 %"]


def test_one_error_in_many_is_never_rounded_away() -> None:
    words = said(plots.plot_confusion_matrix(np.array([[99_999, 1], [0, 5]]), TITLE))
    assert words[1].startswith("100,004 of 100,005 right (> 99.99 %), 1 wrong.")
    assert words.count("> 99.99 %") == 1  # recall of the first class
    assert words.count("100.00 %") == 2  # its precision; recall of the second


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        (np.array([[5, 0], [1, 4]]), None),
        (np.diag(np.full(10, 1000)), None),
        (np.eye(10, dtype=int) * 999_999 + 1, None),  # every share is > 99.99 %
        (np.full((10, 10), 6742), None),
        (np.zeros((10, 10), int), None),
        (np.full((10, 10), 7), NAMES),
        (np.full((10, 10), 7), [f"{i} is {LONG}" for i in range(10)]),
        (np.full((3, 3), 1_000_000), ["字" * 9, "two\nlines", "W" * 99]),
        (np.full((26, 26), 1234), [chr(ord("A") + i) for i in range(26)]),
        (np.array([[9]]), None),
    ],
)
def test_confusion_matrix_is_readable_at_any_size(matrix: Array, names: list[str] | None) -> None:
    check_layout(plots.plot_confusion_matrix(matrix, TITLE, names))


def test_perfect_confusion_matrix_needs_no_colour_bar() -> None:
    words = said(plots.plot_confusion_matrix(np.diag([5, 0, 3]), TITLE))
    assert "errors in a cell" not in words
    assert words[1].startswith("8 of 8 right (100.00 %), 0 wrong. ")
    assert "errors in a cell" in said(
        plots.plot_confusion_matrix(np.array([[5, 2], [0, 3]]), TITLE)
    )


# Mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("white", [1, np.uint8(255)], ids=["fractions", "bytes"])
def test_mistakes_are_the_confident_ones_in_order(white: float) -> None:
    levels = np.array([0, 0.2, 0.4, 0.6, 0.8])
    images = np.ones((5, 28, 28)) * levels[:, None, None] * white
    images = images.astype(np.uint8 if white == 255 else np.float32)
    labels = np.array([0, 1, 2, 3, 4])
    probabilities = answers((0, 0.99), (7, 0.6), (3, 0.9), (3, 0.8), (9, 0.75))
    figure = plots.plot_mistakes(images, labels, probabilities, TITLE, count=2)
    shown = [1 - pixels(tile)[0, 0, 0] / 0.95 for tile in images_of(figure)]
    np.testing.assert_allclose(shown, levels[[2, 4]], atol=1e-6)
    assert said(figure)[1:] == [
        "Misread: 3 of 5 images, numbered from 0. Shown by confidence: 2.",
        "true 2",
        "predicted 3",
        "90.00 %, image 2",
        "true 4",
        "predicted 9",
        "75.00 %, image 4",
    ]


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        (1.0, "> 99.99 %"),
        (np.float32(0.999951), "> 99.99 %"),
        (0.99994, "99.99 %"),
        (0.5, "50.00 %"),
        (0.00005, "0.01 %"),
        (0.00004, "< 0.01 %"),
        (0.0, "< 0.01 %"),
    ],
)
def test_a_probability_is_never_rounded_to_certainty(confidence: float, expected: str) -> None:
    assert percent(confidence) == expected


def test_mistakes_of_equal_confidence_stay_in_the_order_of_the_images() -> None:
    labels = np.arange(100) % 9
    rows = [(9, 0.5 + 0.1 * (i % 3 == 0)) for i in range(100)]
    figure = plots.plot_mistakes(np.zeros((100, 28, 28)), labels, answers(*rows), TITLE, count=60)
    shown = [text for text in said(figure) if text.startswith("true")]
    expected = [*labels[::3], *labels[np.arange(100) % 3 > 0]]
    assert shown == [f"true {label}" for label in expected[:60]]


def test_mistakes_say_the_names_of_the_classes() -> None:
    labels = np.arange(10)
    names = [*NAMES[:8], "a\n字", LONG]
    probabilities = answers(*((9 - i, 0.9 - 0.01 * i) for i in range(10)))
    images = np.zeros((10, 28, 28))
    figure = plots.plot_mistakes(images, labels, probabilities, TITLE, NAMES)
    check_layout(figure)
    words = [text for text in said(figure)[2:] if ", image " not in text]
    assert words[::2] == [f"true {name}" for name in NAMES]
    assert words[1::2] == [f"predicted {name}" for name in reversed(NAMES)]
    figure = plots.plot_mistakes(images, labels, probabilities, TITLE, names)
    check_layout(figure)
    assert r"true a\n\u5b57" in said(figure)
    assert any(re.fullmatch("predicted the.*\N{HORIZONTAL ELLIPSIS}.*ure", t) for t in said(figure))


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 24, 60])
@pytest.mark.parametrize("classes", [10, 100])
def test_any_number_of_mistakes_is_laid_out(number: int, classes: int) -> None:
    labels = np.full(60, classes - 1)
    rows = [(classes - 2, 0.99999)] * number + [(classes - 1, 0.9)] * (60 - number)
    images = np.zeros((60, 28, 28), np.float32)
    figure = plots.plot_mistakes(images, labels, answers(*rows, classes=classes), TITLE)
    check_layout(figure)
    assert len(images_of(figure)) == min(number, 24)
    if number == 0:
        none = "None: all 60 images were read correctly."
        assert said(figure) == [f"{TITLE}: worst mistakes", none]


# Filters -----------------------------------------------------------------------------------------


def correlate(image: Array, kernel: Array, bias: float, stride: int, padding: int = 1) -> Array:
    """Return the response of a filter to an image (C, H, W): the formula, in loops."""
    k = kernel.shape[-1]
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    result = np.empty(((padded.shape[-1] - k) // stride + 1,) * 2)
    for i, j in np.ndindex(result.shape):
        result[i, j] = bias + sum(
            padded[c, i * stride + u, j * stride + v] * kernel[c, u, v]
            for c, u, v in np.ndindex(kernel.shape)
        )
    return result


def pairs(figure: Figure, filters: int) -> list[tuple[Array, Array]]:
    """Return kernel and response of every filter, in the order of drawing."""
    images = [pixels(image) for image in images_of(figure)[: 2 * filters]]
    return list(zip(images[::2], images[1::2], strict=True))


def check_signs(picture: Array, values: Array, largest: float) -> None:
    """Check that positive values are red and negative ones blue, ignoring pale colours."""
    assert picture.shape == (*values.shape, 3)
    strong = np.abs(values) > 0.02 * largest
    shown = np.sign(picture[..., 0] - picture[..., 2])
    np.testing.assert_array_equal(shown[strong], np.sign(values)[strong])


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "stride"),
    [(1, 5, 3, 1), (1, 1, 1, 1), (3, 2, 5, 2), (1, 7, 8, 1), (1, 32, 3, 2)],
)
def test_filters_show_the_kernel_and_what_it_makes_of_the_image(
    channels: int, filters: int, kernel: int, stride: int
) -> None:
    net, conv = convolution(channels, filters, kernel, stride)
    conv.bias[:] = np.linspace(-0.01, 0.01, filters)[:, None]
    figure = plots.plot_filters(net, digit(), TITLE)
    check_layout(figure)
    stack = np.repeat(digit()[None] / 255, channels, axis=0)
    means = conv.weights.mean(axis=1)
    for f, (shown_kernel, shown_response) in enumerate(pairs(figure, filters)):
        response = correlate(stack, conv.weights[f], conv.bias[f, 0], stride)
        check_signs(shown_kernel, means[f], np.abs(means).max())
        check_signs(shown_response, response, np.abs(response).max())
    shown = images_of(figure)[: 2 * filters : 2]
    assert len({image.get_extent()[3] for image in shown}) == -(-filters // 8)  # full rows of 8
    channel_note = any(f"means over their {channels} channels" in text for text in said(figure))
    assert channel_note == (channels > 1)


def test_kernels_share_one_scale_and_responses_have_their_own() -> None:
    net, conv = convolution(filters=2, kernel=1)
    conv.weights[:] = np.array([0.5, -0.125]).reshape(2, 1, 1, 1)
    figure = plots.plot_filters(net, digit(), TITLE)
    (strong, seen), (weak, seen_too) = pairs(figure, 2)
    assert strong[0, 0, 0] > strong[0, 0, 2]  # red, the full colour of the scale
    assert weak.mean() > 0.75  # a quarter of the scale, so pale
    assert seen.min() == pytest.approx(seen_too.min(), abs=0.15)  # both as dark as possible
    assert {"0.5", f"{MINUS}0.5", MINUS} <= set(said(figure))


def test_the_later_layers_have_a_band_each() -> None:
    """Oracle: each layer's formula, applied to the expected output of the layer before."""
    rng = np.random.default_rng(4)
    first, second = (Conv2D(c, f, 3, rng=rng, dtype=np.float64) for c, f in ((1, 3), (3, 20)))
    hidden = HiddenLayer(20 * 12 * 12, 100, rng=rng, dtype=np.float64)
    output = OutputLayer(100, 4, rng=rng, dtype=np.float64)
    for layer in (first, second, hidden, output):
        layer.bias[:] = rng.normal(0, 0.1, layer.bias.shape)
    layers = [InputLayer(), first, ReLU(), second, MaxPool2D(2), ReLU(), hidden, output]
    figure = plots.plot_filters(Network(layers, (1, 28, 28)), digit(), TITLE, ["a", "b", "c", "d"])
    check_layout(figure)

    x = digit()[None] / 255
    rectified = np.maximum(
        0, [correlate(x, first.weights[f], first.bias[f, 0], 1, 0) for f in range(3)]
    )
    seconds = np.array(
        [correlate(rectified, second.weights[f], second.bias[f, 0], 1, 0) for f in range(20)]
    )
    pooled = np.maximum(0, seconds.reshape(20, 12, 2, 12, 2).max(axis=(2, 4)))
    units = np.maximum(0, pooled.reshape(1, -1) @ hidden.weights + hidden.bias)[0]
    powers = np.exp(units @ output.weights + output.bias)[0]
    probabilities = powers / powers.sum()

    tiles = iter(images_of(figure)[2 * 3 + 3 :])  # after the pairs, the image and the colour bars
    for maps in (rectified, seconds[:16], pooled[:16]):
        for values in maps:
            check_signs(pixels(next(tiles)), values, np.abs(values).max())
    assert next(tiles, None) is None
    (mesh,) = figure.axes[0].collections
    cells = np.asarray(mesh.get_array(), float).reshape(1, -1, 3)
    check_signs(cells[:, :100], units[None], units.max())
    assert (cells[:, 100:] == 1).all()  # white
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    heights = np.array([bar.get_height() for bar in bars[-4:]])
    np.testing.assert_allclose(heights / heights.sum(), probabilities, atol=1e-12)
    best = probabilities.argmax()
    assert said(figure)[-14:] == [
        "ReLU()",
        "(3, 26, 26)",
        "Conv2D(3 \N{RIGHTWARDS ARROW} 20, 3x3)",
        "(20, 24, 24): 16 of 20",
        "MaxPool2D(2x2), ReLU()",
        "(20, 12, 12): 16 of 20",
        "HiddenLayer(2880 \N{RIGHTWARDS ARROW} 100)",
        "(100)",
        "OutputLayer(100 \N{RIGHTWARDS ARROW} 4)",
        *"abcd",
        f"{'abcd'[best]}, {percent(probabilities[best])}",
    ]


def many(classes: int = 10, units: int = 300) -> Network:
    """Return a network with more filters, units and classes than fit."""
    layers = [Conv2D(1, 70, 5, stride=2), Conv2D(70, 40, 5, stride=3), MaxPool2D(3)]
    return Network([*layers, HiddenLayer(40, units), OutputLayer(units, classes)], (1, 28, 28))


@pytest.mark.parametrize(
    ("net", "names", "notes"),
    [
        (documented_network(), None, ["(64)"]),
        (lenet(), list("0123456789"), ["(16, 12, 12)", "(32, 4, 4): 16 of 32"]),
        (deep(), NAMES, ["(16, 28, 28)", "(64, 3, 3): 16 of 64"]),
        (documented_network(classes=100), [f"class {i}" for i in range(100)], []),
        (many(), [LONG] * 10, ["(40, 1, 1): 16 of 40", "(300): 256 of 300"]),
        (many(20, 1), [LONG] * 20, ["(1)"]),
    ],
    ids=["documented", "lenet", "deep", "100 classes", "many", "one unit"],
)
def test_networks_of_any_depth_are_legible(
    net: Network, names: list[str] | None, notes: list[str]
) -> None:
    figure = plots.plot_filters(net, digit(), TITLE, names)
    check_layout(figure)
    assert set(notes) <= set(said(figure))
    heights = sorted(image.get_window_extent().height for image in images_of(figure))
    assert heights[2] >= 50  # all except the two colour bars
    assert ("32 of 70 are shown" in said(figure)[1]) == ("70" in said(figure)[0])
    width, height = figure.bbox.size
    assert 1000 <= width <= 1430
    assert height <= 1600


def test_inputs_are_not_written_into() -> None:
    matrix, image, probabilities, (net, conv) = (
        np.eye(3, dtype=int),
        digit(),
        answers((1, 0.9)),
        convolution(),
    )
    for array in (matrix, image, probabilities, conv.weights):
        array.flags.writeable = False
    plots.plot_confusion_matrix(matrix, TITLE)
    plots.plot_mistakes(image[None], np.array([2]), probabilities, TITLE)
    plots.plot_filters(net, image, TITLE)


def test_an_untrained_network_of_zeros_is_drawn() -> None:
    net, conv = convolution()
    conv.weights[:] = 0
    check_layout(plots.plot_filters(net, np.zeros((28, 28), np.uint8), TITLE))


def test_a_network_without_convolution_says_so() -> None:
    net = Network([HiddenLayer(784, 4), OutputLayer(4, 10)], input_shape=(1, 28, 28))
    figure = plots.plot_filters(net, digit(), TITLE)
    assert said(figure) == [f"{TITLE}: filters", "This network has no Conv2D."]
    check_layout(figure)


# Distortions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 7, 8, 9, 16])
@pytest.mark.parametrize("white", [1.0, np.uint8(255)], ids=["fractions", "bytes"])
def test_each_image_stands_above_its_distorted_copy(number: int, white: float) -> None:
    """Both in one column, eight columns per row, in order."""
    rng = np.random.default_rng(0)
    originals, distorted = rng.integers(0, 2, (2, number, 5, 4), dtype=np.uint8) * white
    figure = plots.plot_distortions(originals, distorted, TITLE)
    check_layout(figure)
    tiles = images_of(figure)
    found = {(tile.get_extent()[0], tile.get_extent()[3]): pixels(tile)[..., 0] for tile in tiles}
    lefts = sorted({x for x, _ in found})
    tops = sorted({y for _, y in found})
    assert (len(tiles), len(lefts)) == (2 * number, min(number, 8))
    for i in range(number):
        row, column = divmod(i, 8)
        for below, image in enumerate((originals[i], distorted[i])):
            shown = found[lefts[column], tops[2 * row + below]]
            np.testing.assert_allclose(shown, 0.95 * (image == 0), atol=1e-6)
    rows = -(-number // 8)
    assert said(figure)[2:] == ["original", "distorted"] * rows
