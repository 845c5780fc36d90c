"""The five pictures of a run.

Oracles: the input itself, read back from the artists of the figure (lines, images, texts) and
compared with values worked out by hand or by loops; the renderer's own bounding boxes for what is
clipped or overlaps; Pillow for the files; a second process for what is global.
"""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from handcnn import Conv2D, HiddenLayer, InputLayer, Network, OutputLayer, plots
from handcnn.loss import loss_gradient

TITLE = "digits (NOT MNIST)"


def history_of(epochs, *, start=0.7656, seed=0):
    """Return a run as MNIST gives it: a poor first training value, then ever smaller steps."""
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        accuracy = start if epoch == 1 else 0.985 - 0.05 / epoch + 0.014 * (epoch / epochs)
        val_accuracy = 0.978 - 0.045 / epoch + rng.normal(0, 0.0007)
        rows.append(
            {
                "epoch": epoch,
                "loss": 0.7 if epoch == 1 else 0.16 / epoch,
                "accuracy": accuracy,
                "val_loss": 0.085 + 0.13 / epoch + 0.0003 * epoch + rng.normal(0, 0.002),
                "val_accuracy": val_accuracy,
                "seconds": 3.0,
                "images_per_second": 18_000.0,
            }
        )
    return rows


def constant_history(epochs, accuracy, loss):
    return [
        {
            "epoch": epoch,
            "loss": loss,
            "accuracy": accuracy,
            "val_loss": loss,
            "val_accuracy": accuracy,
        }
        for epoch in range(1, epochs + 1)
    ]


def small_network(*, channels=1, filters=5, kernel=3, stride=1, dtype=np.float64):
    rng = np.random.default_rng(3)
    conv = Conv2D(channels, filters, kernel, stride=stride, padding=1, rng=rng, dtype=dtype)
    _, oh, ow = conv.output_shape((channels, 28, 28))
    output = OutputLayer(filters * oh * ow, 10, rng=rng, dtype=dtype)
    return Network([InputLayer(), conv, output], input_shape=(channels, 28, 28))


def digit():
    return np.random.default_rng(5).integers(0, 256, (28, 28), dtype=np.uint8)


def answers(*rows, classes=10):
    """Probabilities from (class, confidence) pairs; the rest is spread evenly."""
    probabilities = np.empty((len(rows), classes))
    for row, (answer, confidence) in zip(probabilities, rows, strict=True):
        row[:] = (1 - confidence) / (classes - 1)
        row[answer] = confidence
    return probabilities


def texts_of(figure):
    """Every text that is drawn: what the axes hold and, if they are switched on, their labels."""
    texts = []
    for axes in figure.axes:
        texts += axes.texts
        if axes.axison:
            texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
            texts += [axes.xaxis.label, axes.yaxis.label, *axes.get_legend().get_texts()]
    return [text for text in texts if text.get_visible() and text.get_text()]


def said(figure):
    return [text.get_text() for text in texts_of(figure)]


def inside(figure, box):
    return min(box.x0, box.y0) >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def check_layout(figure: Figure):
    """Nothing outside the picture, no text over a text, over an image or over the axes."""
    figure.canvas.draw()
    texts = texts_of(figure)
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert inside(figure, box), f"{text.get_text()!r} is clipped"
        assert text.get_fontsize() >= 8, text.get_text()
    for (a, box), (b, other) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not box.overlaps(other), f"{a.get_text()!r} lies over {b.get_text()!r}"
    obstacles = [image.get_window_extent() for axes in figure.axes for image in axes.images]
    obstacles += [axes.bbox for axes in figure.axes if axes.axison]
    for (text, box), obstacle in itertools.product(zip(texts, boxes, strict=True), obstacles):
        assert not box.overlaps(obstacle), f"{text.get_text()!r} lies over an image or a curve"
    for image in (image for axes in figure.axes for image in axes.images):
        assert inside(figure, image.get_window_extent())


def curves(figure: Figure) -> Axes:
    (axes,) = (axes for axes in figure.axes if axes.axison)
    return axes


# The checker itself ------------------------------------------------------------------------------


def test_layout_checker_notices_overlap_and_clipping():
    figure = plots.draw_accuracy(history_of(3), TITLE)
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


def write_all(folder: Path):
    labels = np.arange(40) % 10
    probabilities = answers(*(((label * 7) % 10, 0.5 + 0.01 * label) for label in labels))
    matrix = np.diag(np.arange(10) * 50) + np.arange(100).reshape(10, 10) % 7
    images = np.random.default_rng(2).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    plots.save_figure(folder / "accuracy.png", plots.draw_accuracy(history_of(10), TITLE, 0.97))
    plots.save_figure(folder / "loss.png", plots.draw_loss(history_of(10), TITLE, 0.1))
    plots.save_figure(folder / "confusion_matrix.png", plots.draw_confusion_matrix(matrix, TITLE))
    plots.save_figure(
        folder / "mistakes.png", plots.draw_mistakes(images, labels, probabilities, TITLE)
    )
    plots.save_figure(
        folder / "filters.png", plots.draw_filters(small_network(filters=32), digit(), TITLE)
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_files_are_the_same_bytes_in_another_process_which_stays_clean(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    hashes = write_all(here)
    tests = Path(__file__).parent
    arguments = [there, tests, tests.parent]
    subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_ANOTHER_PROCESS, *map(str, arguments)], check=True
    )
    assert len(hashes) == 5
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in there.iterdir()} == hashes


def test_files_are_png_of_a_size_for_the_screen(tmp_path):
    write_all(tmp_path)
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert 1000 <= image.width <= 1430
            assert 600 <= image.height <= 800
            assert set(image.info) == {"dpi"}  # no date, no version
        assert path.stat().st_size < 300_000


def test_the_title_is_in_every_picture():
    labels = np.array([3])
    figures = [
        plots.draw_accuracy(history_of(3), TITLE),
        plots.draw_loss(history_of(3), TITLE),
        plots.draw_confusion_matrix(np.eye(10, dtype=int), TITLE),
        plots.draw_mistakes(digit()[None], labels, answers((3, 0.9)), TITLE),
        plots.draw_filters(small_network(), digit(), TITLE),
    ]
    for figure in figures:
        assert said(figure)[0].startswith(f"{TITLE}: ")


# Curves ------------------------------------------------------------------------------------------

RUNS = {f"{n} epochs": history_of(n) for n in (1, 2, 3, 10, 16, 30, 41, 200, 1234)}
RUNS |= {
    "learns nothing": constant_history(5, 0.1, 2.302585),
    "perfect": constant_history(15, 1.0, 0.0),
    "terrible loss": constant_history(3, 0.0, 34.5),
    "slow start": history_of(10, start=0.92),
}


@pytest.mark.parametrize("run", RUNS)
def test_curves_hold_the_history_and_nothing_overlaps(run):
    history = RUNS[run]
    for figure, key, factor in (
        (plots.draw_accuracy(history, TITLE, history[0]["val_accuracy"]), "accuracy", 100),
        (plots.draw_loss(history, TITLE, history[0]["val_loss"]), "loss", 1),
    ):
        check_layout(figure)
        by_label = {line.get_label().split()[0]: line for line in curves(figure).lines}
        epochs = [row["epoch"] for row in history]
        for name, column in (("training", key), ("validation", f"val_{key}")):
            np.testing.assert_array_equal(by_label[name].get_xdata(), epochs)
            expected = [factor * row[column] for row in history]
            np.testing.assert_allclose(by_label[name].get_ydata(), expected, rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 2, *[st.floats(0, 34.5)] * 2), min_size=1, max_size=60),
    st.none() | st.floats(0, 1),
)
def test_the_axes_hold_all_but_the_steep_start(rows, test):
    names = ("accuracy", "val_accuracy", "loss", "val_loss")
    history = [
        {"epoch": epoch} | dict(zip(names, row, strict=True)) for epoch, row in enumerate(rows, 1)
    ]
    for figure, key, factor in (
        (plots.draw_accuracy(history, TITLE, test), "accuracy", 100),
        (plots.draw_loss(history, TITLE, test), "loss", 1),
    ):
        axes = curves(figure)
        low, high = axes.get_ylim()
        start = len(history) // 20
        training = [factor * row[key] for row in history[max(start, 1) :]]
        validation = [factor * row[f"val_{key}"] for row in history[start:]]
        values = training + validation + ([] if test is None else [factor * test])
        if len(history) <= 2:
            values.append(factor * history[0][key])
        assert low < min(values)
        assert max(values) < high
        assert axes.get_xlim()[0] < 1 <= len(history) < axes.get_xlim()[1]
        assert all(0 <= tick <= (100 if key == "accuracy" else high) for tick in axes.get_yticks())
        first = {
            "training": factor * history[0][key],
            "validation": factor * history[0][f"val_{key}"],
        }
        notes = [text for text in said(figure) if text.startswith("Outside the axis in epoch 1: ")]
        for name, value in first.items():
            assert (not low <= value <= high) == any(name in note for note in notes)


def test_the_steep_start_is_left_out_and_said():
    history = history_of(10)  # training: 76.56 % in epoch 1, more than 95 % ever after
    figure = plots.draw_accuracy(history, TITLE)
    assert curves(figure).get_ylim()[0] > 90
    assert said(figure).count("Outside the axis in epoch 1: training 76.56 %") == 1


def test_only_the_first_value_of_a_short_run_is_left_out():
    history = history_of(10)
    history[1]["accuracy"] = 0.5
    assert curves(plots.draw_accuracy(history, TITLE)).get_ylim()[0] < 50


def test_a_start_that_fits_stays_in():
    history = history_of(10, start=0.92)
    figure = plots.draw_accuracy(history, TITLE)
    assert curves(figure).get_ylim()[0] < 92
    assert not any("Outside" in text for text in said(figure))


def test_legend_has_last_values_the_best_epoch_and_the_test():
    history = constant_history(4, 0.5, 1.0)
    history[1] |= {"val_accuracy": 0.97654, "val_loss": 0.25}
    history[2] |= {"val_accuracy": 0.97654, "val_loss": 0.125}  # as accurate, with a lower loss
    history[3] |= {"val_accuracy": 0.97012, "accuracy": 0.98761, "val_loss": 0.0625, "loss": 0.03}
    accuracy = plots.draw_accuracy(history, TITLE, 0.9728)
    loss = plots.draw_loss(history, TITLE, 0.09712)
    assert [t.get_text() for t in curves(accuracy).get_legend().get_texts()] == [
        "training 98.76 %",
        "validation 97.01 %",
        "best epoch (3) 97.65 %",
        "test 97.28 %",
    ]
    assert [t.get_text() for t in curves(loss).get_legend().get_texts()] == [
        "training 0.0300",
        "validation 0.0625",
        "best epoch (3) 0.1250",
        "test 0.0971",
    ]
    marks = {line.get_label().split()[0]: line.get_xydata() for line in curves(loss).lines}
    np.testing.assert_allclose(marks["best"], [[3, 0.125]])
    np.testing.assert_allclose(marks["test"], [[3, 0.09712]])


def test_without_a_test_result_there_is_no_mark_for_it():
    labels = [line.get_label() for line in curves(plots.draw_loss(history_of(3), TITLE)).lines]
    assert not any(label.startswith("test") for label in labels)
    zero = [
        line.get_label() for line in curves(plots.draw_accuracy(history_of(3), TITLE, 0.0)).lines
    ]
    assert "test 0.00 %" in zero


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
def test_ticks_are_whole_epochs(epochs, expected):
    axes = curves(plots.draw_loss(history_of(epochs), TITLE))
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(n) for n in expected]
    np.testing.assert_array_equal(axes.get_xticks(), expected)


# Confusion matrix --------------------------------------------------------------------------------


def cell_colours(figure, classes):
    (mesh,) = figure.axes[0].collections
    return np.asarray(mesh.get_array()).reshape(classes, classes, 3)


def test_confusion_matrix_colours_errors_and_not_the_diagonal():
    matrix = np.array([[500, 2, 0], [4, 900, 1], [0, 0, 7]])
    figure = plots.draw_confusion_matrix(matrix, TITLE)
    colours = cell_colours(figure, 3)
    diagonal = colours[np.arange(3), np.arange(3)]
    assert (diagonal == diagonal[0, 0]).all()  # one grey, whatever the count
    assert 0.8 < diagonal[0, 0] < 0.95
    assert (colours[matrix == 0] == 1).all()  # white
    darkness = 1 - colours.mean(axis=-1)
    assert darkness[1, 0] > darkness[0, 1] > darkness[1, 2] > 0
    assert np.ptp(colours[1, 0]) > 0.3  # a colour, not a grey


def test_confusion_matrix_says_every_count_where_it_belongs():
    matrix = np.array([[11, 12, 13], [14, 15, 16], [17, 18, 19]])
    texts = texts_of(plots.draw_confusion_matrix(matrix, TITLE, ["a", "b", "c"]))
    # Reversed, because the colour bar, drawn last, repeats the worst count.
    places = {text.get_text(): text.get_position() for text in reversed(texts)}
    x = np.array([[places[str(count)][0] for count in row] for row in matrix])
    y = np.array([[places[str(count)][1] for count in row] for row in matrix])
    assert (x == x[0]).all()
    assert (y == y[:, :1]).all()
    assert x[0, 0] < x[0, 1] < x[0, 2]
    assert y[0, 0] < y[1, 0] < y[2, 0]  # y points down
    names = [text.get_position() for text in texts if text.get_text() in "abc"]
    assert sorted({place[0] for place in names})[1:] == list(x[0])  # the first is left of them
    assert sorted({place[1] for place in names})[1:] == list(y[:, 0])


def test_confusion_matrix_by_hand():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    figure = plots.draw_confusion_matrix(matrix, TITLE, ["cat", "dog", "owl"])
    assert "5 of 8 right (62.50 %), 3 wrong." in said(figure)
    recall = [text for text in texts_of(figure) if text.get_text() in ("75.00 %", "-", "50.00 %")]
    assert [text.get_text() for text in recall] == ["75.00 %", "-", "50.00 %"]
    assert all(said(figure).count(name) == 2 for name in ("cat", "dog", "owl"))


CLOTHES = [f"T-shirt/top {i}" for i in range(10)]


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        (np.array([[5, 0], [1, 4]]), None),
        (np.diag(np.full(10, 1000)), None),
        (np.full((10, 10), 6742), None),
        (np.zeros((10, 10), int), None),
        (np.full((10, 10), 7), CLOTHES),
        (np.full((26, 26), 1234), [chr(ord("A") + i) for i in range(26)]),
        (np.array([[9]]), None),
    ],
)
def test_confusion_matrix_is_readable_at_any_size(matrix, names):
    check_layout(plots.draw_confusion_matrix(matrix, TITLE, names))


def test_perfect_confusion_matrix_needs_no_colour_bar():
    figure = plots.draw_confusion_matrix(np.diag([5, 0, 3]), TITLE)
    assert "errors in a cell" not in said(figure)
    assert "8 of 8 right (100.00 %), 0 wrong." in said(figure)
    figure = plots.draw_confusion_matrix(np.array([[5, 2], [0, 3]]), TITLE)
    assert "errors in a cell" in said(figure)


# Mistakes ----------------------------------------------------------------------------------------


def tiles(figure):
    """Return the images of the page in reading order."""
    images = figure.axes[0].images
    return sorted(images, key=lambda image: (image.get_extent()[3], image.get_extent()[0]))


def test_mistakes_are_the_confident_ones_in_order():
    images = np.stack([np.full((28, 28), 10 * i, np.uint8) for i in range(5)])
    labels = np.array([0, 1, 2, 3, 4])
    said_by_network = answers((0, 0.99), (7, 0.6), (3, 0.9), (3, 0.8), (9, 0.75))
    figure = plots.draw_mistakes(images, labels, said_by_network, TITLE, count=2)
    shown = [1 - np.asarray(tile.get_array())[0, 0, 0] / 0.95 for tile in tiles(figure)]
    np.testing.assert_allclose(shown, [20 / 255, 40 / 255], atol=1e-6)
    assert said(figure)[1:] == [
        "Wrong answers: 3 of 5. Shown: 2, those given with most confidence.",
        "true 2",
        "predicted 3, 90.0 %",
        "true 4",
        "predicted 9, 75.0 %",
    ]


def test_mistakes_of_equal_confidence_stay_in_the_order_of_the_images():
    labels = np.arange(100) % 9
    rows = [(9, 0.5 + 0.1 * (i % 3 == 0)) for i in range(100)]
    figure = plots.draw_mistakes(np.zeros((100, 28, 28)), labels, answers(*rows), TITLE, count=60)
    shown = [text for text in said(figure) if text.startswith("true")]
    expected = [*labels[::3], *labels[np.arange(100) % 3 > 0]]
    assert shown == [f"true {label}" for label in expected[:60]]


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 24, 60])
@pytest.mark.parametrize("classes", [10, 100])
def test_any_number_of_mistakes_is_laid_out(number, classes):
    labels = np.full(60, classes - 1)
    rows = [(classes - 2, 0.99999)] * number + [(classes - 1, 0.9)] * (60 - number)
    images = np.zeros((60, 28, 28), np.float32)
    figure = plots.draw_mistakes(images, labels, answers(*rows, classes=classes), TITLE)
    check_layout(figure)
    assert len(tiles(figure)) == min(number, 24)


def test_no_mistakes_is_said():
    figure = plots.draw_mistakes(
        np.zeros((2, 28, 28)), np.array([1, 2]), answers((1, 0.9), (2, 0.9)), TITLE
    )
    assert said(figure) == [f"{TITLE}: worst mistakes", "None: all 2 images were read correctly."]


def test_bytes_and_fractions_give_the_same_picture():
    bytes_ = digit()[None]
    pictures = [
        np.asarray(tiles(figure)[0].get_array())
        for figure in (
            plots.draw_mistakes(images, np.array([1]), answers((2, 0.9)), TITLE)
            for images in (bytes_, (bytes_ / 255).astype(np.float32))
        )
    ]
    np.testing.assert_allclose(*pictures, atol=1e-6)


# Filters -----------------------------------------------------------------------------------------


def correlate(image, kernel, bias, stride, padding=1):
    """Return what a filter makes of an image (C, H, W): the formula, in loops."""
    channels, height, width = image.shape
    k = kernel.shape[-1]
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding))
    padded[:, padding : padding + height, padding : padding + width] = image
    result = np.empty(((height + 2 * padding - k) // stride + 1,) * 2)
    for i, j in np.ndindex(result.shape):
        window = padded[:, i * stride : i * stride + k, j * stride : j * stride + k]
        result[i, j] = bias + sum(
            window[c, u, v] * kernel[c, u, v] for c, u, v in np.ndindex(channels, k, k)
        )
    return result


def signed(picture):
    """Return red minus blue, which has the sign of the value behind the colour."""
    colours = np.asarray(picture.get_array(), float)
    return colours[..., 0] - colours[..., 2]


def pairs(figure, filters):
    """Kernel and response of every filter, in the order of drawing."""
    images = figure.axes[0].images[: 2 * filters]
    return list(zip(images[::2], images[1::2], strict=True))


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "stride"),
    [(1, 5, 3, 1), (1, 1, 1, 1), (3, 2, 5, 2), (1, 7, 8, 1)],
)
def test_filters_show_the_kernel_and_what_it_makes_of_the_image(channels, filters, kernel, stride):
    net = small_network(channels=channels, filters=filters, kernel=kernel, stride=stride)
    conv = net.layers[1]
    conv.bias[:] = np.linspace(-0.01, 0.01, filters)[:, None]
    image = digit()
    figure = plots.draw_filters(net, image, TITLE)
    check_layout(figure)
    stack = np.repeat(image[None] / 255, channels, axis=0)
    for f, (shown_kernel, shown_response) in enumerate(pairs(figure, filters)):
        expected = correlate(stack, conv.weights[f], conv.bias[f, 0], stride)
        assert shown_kernel.get_array().shape == (kernel, kernel, 3)
        assert shown_response.get_array().shape == (*expected.shape, 3)
        for picture, values in (
            (shown_kernel, conv.weights[f].mean(axis=0)),
            (shown_response, expected),
        ):
            strong = np.abs(values) > 0.02 * np.abs(values).max()
            largest = np.abs(conv.weights.mean(axis=1)).max() if picture is shown_kernel else 1
            strong &= np.abs(values) > 0.02 * largest if picture is shown_kernel else True
            np.testing.assert_array_equal(np.sign(signed(picture))[strong], np.sign(values)[strong])
    channel_note = any(f"means over their {channels} channels" in text for text in said(figure))
    assert channel_note == (channels > 1)


def test_kernels_share_one_scale_and_responses_have_their_own():
    net = small_network(filters=2, kernel=1)
    net.layers[1].weights[:] = np.array([0.5, -0.125]).reshape(2, 1, 1, 1)
    figure = plots.draw_filters(net, digit(), TITLE)
    (strong, seen), (weak, seen_too) = pairs(figure, 2)
    full = np.asarray(strong.get_array())[0, 0]
    assert full[0] > full[2]  # red, the full colour of the scale
    assert np.asarray(weak.get_array()).mean() > 0.75  # a quarter of the scale: pale
    assert np.asarray(seen.get_array()).min() == pytest.approx(
        np.asarray(seen_too.get_array()).min(), abs=0.15
    )  # both as dark as they get
    assert "0.5" in said(figure)
    assert "-0.5" in said(figure)


def test_drawing_does_not_disturb_a_network_between_forward_and_backward():
    net, image = small_network(), digit()
    x = np.random.default_rng(8).random((4, 1, 28, 28))
    dout = loss_gradient(net.forward(x), np.eye(10)[[1, 2, 3, 4]])
    net.backward(dout)
    expected = net.layers[1].dweights.copy()
    net.forward(x)
    plots.draw_filters(net, image, TITLE)
    net.backward(dout)
    np.testing.assert_array_equal(net.layers[1].dweights, expected)


def test_inputs_are_not_written_into():
    matrix, image, net = np.full((3, 3), 4), digit(), small_network()
    probabilities = answers((1, 0.9))
    for array in (matrix, image, probabilities, net.layers[1].weights):
        array.flags.writeable = False
    plots.draw_confusion_matrix(matrix, TITLE)
    plots.draw_mistakes(image[None], np.array([2]), probabilities, TITLE)
    plots.draw_filters(net, image, TITLE)


def test_an_untrained_network_of_zeros_is_drawn():
    net = small_network()
    net.layers[1].weights[:] = 0
    check_layout(plots.draw_filters(net, np.zeros((28, 28), np.uint8), TITLE))


def test_a_network_without_convolution_says_so():
    net = Network([HiddenLayer(784, 4), OutputLayer(4, 10)], input_shape=(1, 28, 28))
    figure = plots.draw_filters(net, digit(), TITLE)
    assert said(figure) == [f"{TITLE}: filters", "This network has no Conv2D."]
    check_layout(figure)
