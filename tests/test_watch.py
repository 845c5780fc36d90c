"""A training that is watched: it ends with the same bytes, and what is shown of it is true.

Oracles: an undisturbed training, byte by byte; the loops of `reference.py` for the arithmetic of a
step; the history of a run for its losses. test_watch_browser.py tests the page in a browser.
"""

import base64
import io
import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import RATES, SMALL, batch, close, copies, network, refused, step_by_loops
from page_visitor import Page
from training_processes import FILES, OPTIONS, Forks, Result

pytest.importorskip("waitress", reason="waitress, the server of the page, is not installed")

from app.watching import samples
from handcnn import HandcnnError, Network, loss_function
from handcnn.models import Recipe, lenet
from handcnn.page import server
from handcnn.page.training_view import MAX_POINTS, Scene
from handcnn.page.watching import Watch
from handcnn.pictures import load_picture, prepare, read_digits
from handcnn.preparation import Preparation
from handcnn.storage.checkpoints import load_checkpoint, no_steps
from handcnn.training import Metrics, Step, train
from handcnn.types import Array

K = 10
DIGITS = [*"0123456789"]
SEVEN = (Path(__file__).parents[1] / "docs" / "seven.jpg").read_bytes()


# The whole program -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest.fixture(scope="module")
def unwatched(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("unwatched")
    assert forks.train(*OPTIONS, "--output-dir", str(path)).code == 0
    return contents(path)


def contents(path: Path) -> dict[str, bytes]:
    """Return the content of every visible file of the only run in a folder."""
    (run,) = path.iterdir()
    return {file.name: file.read_bytes() for file in run.glob("[!.]*")}


def watched(forks: Forks, path: Path, act: str, *options: str) -> Result:
    """Train with a page that acts as a function of page_visitor.py."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    setup = f"import page_visitor as v; v.visit({port}, v.{act}); "
    setup += "at_call(1, 'handcnn.training.learning_rates', v.wait_for_page)"
    page = ("--watch", "--no-browser", "--port", str(port))
    return forks.train(*(options or OPTIONS), *page, "--output-dir", str(path), setup=setup)


def test_watched_paused_stepped_and_drawn_on_it_ends_with_the_same_bytes(
    forks: Forks, tmp_path: Path, unwatched: dict[str, bytes]
) -> None:
    result = watched(forks, tmp_path, "look_everywhere")
    assert (result.code, result.err) == (0, "")
    assert contents(tmp_path) == unwatched
    assert unwatched.keys() == FILES
    first, *_, last = result.out.splitlines()
    address = first.split()[1]
    assert first == f"watch    {address}   (Ctrl-C stops the training)"
    assert last == f"the page stays at {address} until Ctrl-C"


@pytest.mark.parametrize(
    ("act", "code", "says"),
    [
        ("die_paused", -9, ""),
        (
            "stop",
            130,
            "\nstopping after this step; press Ctrl-C again to quit now\n"
            "train.py: stopped by SIGINT; nothing is lost; resume with: ",
        ),
    ],
)
def test_killed_or_stopped_while_paused_it_resumes_exactly(
    forks: Forks, tmp_path: Path, unwatched: dict[str, bytes], act: str, code: int, says: str
) -> None:
    result = watched(forks, tmp_path, act)
    assert (result.code, result.err[: len(says)], bool(result.err)) == (code, says, bool(says))
    resumed = watched(forks, tmp_path, "look_everywhere", "--resume", "latest")
    assert (resumed.code, resumed.err) == (0, "")
    assert contents(tmp_path) == unwatched


def test_without_the_server_there_is_one_sentence_before_training(
    forks: Forks, tmp_path: Path
) -> None:
    setup = "sys.modules['waitress'] = sys.modules['waitress.server'] = None"
    result = forks.train("--watch", "--output-dir", str(tmp_path / "outputs"), setup=setup)
    says = "train.py: waitress is not installed in this Python; use make, or see README.md\n"
    assert (result.code, result.out, result.err) == (1, "", says)
    assert not (tmp_path / "outputs").exists()


def test_a_port_in_use_is_named_before_training(forks: Forks, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = forks.train(
            "--watch", "--port", str(port), "--output-dir", str(tmp_path / "outputs")
        )
    fault = "is used by another program; choose another one, or omit --port"
    assert (result.code, result.err) == (1, f"train.py: port {port} {fault}\n")
    assert not (tmp_path / "outputs").exists()


def test_the_losses_of_all_steps_are_kept(unwatched: dict[str, bytes], tmp_path: Path) -> None:
    """Their mean over an epoch, weighted by the images of each step, is the loss of the history."""
    header, *lines = unwatched["losses.csv"].decode().splitlines()
    assert header == "epoch,step,loss,accuracy"
    rows = np.array([line.split(",") for line in lines], float)
    np.testing.assert_array_equal(rows[:, 0], np.repeat([1, 2, 3, 4], 5))
    np.testing.assert_array_equal(rows[:, 1], np.arange(20) + 1)
    history = [line.split(",") for line in unwatched["history.csv"].decode().splitlines()]
    for row in history[1:]:
        of_epoch = rows[rows[:, 0] == int(row[0])]
        for column, mean in ((2, row[2]), (3, row[3])):
            assert of_epoch[:, column].mean() == pytest.approx(float(mean), rel=1e-5)
    checkpoint = tmp_path / "checkpoint.npz"
    checkpoint.write_bytes(unwatched["checkpoint.npz"])
    np.testing.assert_allclose(load_checkpoint(checkpoint).steps, rows[:, 2:], rtol=1e-5)


# What is shown -----------------------------------------------------------------------------------


def scene(n: int = 12, **changes: Any) -> Scene:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (n, 28, 28), np.uint8)
    values: dict[str, Any] = {
        "epochs": 2,
        "steps": 4,
        "batch_size": 8,
        "past": no_steps(),
        "done": 0,
        "images": images,
        "labels": np.arange(n) % K,
        "class_names": DIGITS,
        "preparation": Preparation("digits"),
        "about": {"run": "a run"},
    }
    return Scene(**(values | changes))


def watch(net: Network, **changes: Any) -> Watch:
    return Watch(net, scene(**changes), [], lambda: None, lambda: None)


def trained(net: Network, listener: Watch, epochs: int = 1) -> list[Step]:
    """Train on random images while a page looks at every step; return the steps."""
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 1, 28, 28), np.float32), np.eye(K, dtype=np.float32)[np.arange(8) % K]
    steps = []
    for event in train(net, [(x, y)] * 4, Recipe(epochs, 8, 0.01, "constant", "none"), rng):
        if isinstance(event, Step):
            listener.state(b"")  # a page is open
            listener.next_snapshot = 0
            listener.see_step(event)
            steps.append(event)
    return steps


def floats(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), np.float32)


def test_the_newest_figures() -> None:
    net = lenet(rng=np.random.default_rng(0))
    listener = watch(net)
    before = listener.state(b"")
    assert (before["number"], before["loss"], before["paused"]) == (0, None, False)
    steps = trained(net, listener)
    state = listener.state(b"number=3")
    assert (state["number"], state["epoch"]) == (4, 1)
    assert state["loss"] == round(steps[-1].loss, 4)
    losses = floats(state["curves"]["losses"]).reshape(3, -1)
    np.testing.assert_allclose(losses, [[step.loss for step in steps]] * 3, rtol=1e-6)
    accuracies = [step.correct / 8 for step in steps]
    np.testing.assert_allclose(floats(state["curves"]["accuracies"]), accuracies)
    json.dumps(state, allow_nan=False)
    assert listener.state(b"number=4")["curves"] is None


def test_a_snapshot_is_that_of_its_step() -> None:
    net = lenet(rng=np.random.default_rng(0))
    listener = watch(net)
    (first, *_, before_last, _) = [None, *trained(net, listener), None]
    assert first is None
    shown = listener.state(b"")["snapshot"]
    assert shown["number"] == 4
    x = scene().images[:, None] / np.float32(255)
    y_pred = net.predict_proba(x)
    assert shown["answers"] == y_pred.argmax(axis=1).tolist()
    right = y_pred[np.arange(12), np.arange(12) % K]
    np.testing.assert_allclose(shown["right"], right, atol=1e-4)
    kernels = net.layers[1].parameters()["weights"][:, 0]
    levels = np.frombuffer(base64.b64decode(shown["kernels"]), np.int8).reshape(kernels.shape)
    np.testing.assert_allclose(levels, 127 * kernels / np.abs(kernels).max(), atol=0.5001)
    assert np.sum(shown["confusion"]) == 4 * 8
    assert before_last is not None


def test_the_sizes_of_the_changes_are_those_of_the_real_step() -> None:
    net = network(SMALL)
    listener = Watch(net, scene_of(SMALL), [], lambda: None, lambda: None)
    x, y = batch(SMALL)
    parameters = copies(net.parameters())
    _, gradients, updated = step_by_loops(parameters, x, y, SMALL)
    listener.look_at_next()
    y_pred = net.train_step(x, y)
    listener.see_step(step_of(x, y, y_pred))
    for i, sizes in enumerate(listener.snapshot["changes"], start=1):
        name = f"layer{i}.weights"
        change = updated[name] - parameters[name]
        size = np.sqrt(np.square(change).mean())
        assert sizes["update"] == pytest.approx(size, rel=1e-6)
        assert sizes["weights"] == pytest.approx(np.sqrt(np.square(updated[name]).mean()))
    assert gradients.keys() == parameters.keys()


def scene_of(geometry: Any) -> Scene:
    """Return a scene for a network that does not read 28x28."""
    images = np.zeros((2, *geometry.image_shape[1:]), np.uint8)
    return scene(images=images, labels=np.zeros(2, int), class_names=[*"abcdefg"][: geometry.K])


def step_of(x: Array, y: Array, y_pred: Array, rate: float = 0.01) -> Step:
    correct = int((y_pred.argmax(axis=1) == y.argmax(axis=1)).sum())
    loss = loss_function(y_pred, y)
    return Step(1, 2, 4, loss, Metrics(loss, 0), correct, rate, x, y, y_pred)


def test_one_step_by_hand_agrees_with_the_loops() -> None:
    """For every kernel and unit of every layer."""
    net = network(SMALL)
    listener = Watch(net, scene_of(SMALL), [], lambda: None, lambda: None)
    assert refused(lambda: listener.single_step(b"layer=1"), HandcnnError) == (
        "no single step was taken yet; pause, then take one step"
    )
    x, y = batch(SMALL)
    parameters = copies(net.parameters())
    _, gradients, updated = step_by_loops(parameters, x, y, SMALL)
    listener.look_at_next(single=True)
    y_pred = net.train_step(x, y)
    listener.see_step(step_of(x, y, y_pred))
    for layer, units in ((1, SMALL.F), (2, SMALL.M), (3, SMALL.K)):
        for unit in range(units):
            single = listener.single_step(f"layer={layer}&unit={unit}".encode())
            weights = single["weights"]
            for i, place in enumerate(weights["places"]):
                where = (unit, weights["channel"], *place) if layer == 1 else (*place, unit)
                for figure, arrays in (
                    ("old", parameters), ("gradient", gradients), ("new", updated),
                ):  # fmt: skip
                    expected = arrays[f"layer{layer}.weights"][where]
                    assert weights[figure][i] == pytest.approx(expected, rel=1e-9, abs=1e-12)
            w, dw = np.array(weights["old"]), np.array(weights["gradient"])
            close(np.array(weights["new"]), w - RATES[layer - 1] * dw)
            bias = (unit, 0) if layer == 1 else (0, unit)
            assert weights["bias"]["new"][0] == pytest.approx(updated[f"layer{layer}.bias"][bias])
    assert single["loss"] == loss_function(y_pred, y)
    assert single["lossAfter"] == pytest.approx(loss_function(net.predict_proba(x), y), rel=1e-12)
    assert single["answers"] == y_pred.argmax(axis=1).tolist()
    message = refused(lambda: listener.single_step(b"layer=0"), HandcnnError)
    assert message == "there is no such layer; use one with weights"


@pytest.mark.parametrize("count", [1, MAX_POINTS, MAX_POINTS + 1, 7 * MAX_POINTS + 3])
def test_a_page_opened_late_gets_all_steps_as_at_most_a_thousand_points(count: int) -> None:
    steps = np.random.default_rng(0).random((count, 2)).astype(np.float32)
    listener = watch(lenet(rng=np.random.default_rng(0)), past=steps, done=count // 4)
    curves = listener.state(b"")["curves"]
    low, mean, high = floats(curves["losses"]).reshape(3, -1)
    stride = curves["stride"]
    assert len(low) <= MAX_POINTS
    assert (len(low) - 1) * stride < count <= len(low) * stride
    for i in range(len(low)):
        part = steps[i * stride : (i + 1) * stride]
        np.testing.assert_allclose(
            [low[i], mean[i], high[i]],
            [part[:, 0].min(), part[:, 0].mean(), part[:, 0].max()],
            rtol=1e-5,
        )
        assert floats(curves["accuracies"])[i] == pytest.approx(part[:, 1].mean(), rel=1e-5)


def test_nobody_looks_nothing_is_computed() -> None:
    listener = watch(lenet(rng=np.random.default_rng(0)))
    snapshot = listener.snapshot
    x = np.zeros((1, 1, 28, 28), np.float32)
    y = np.eye(K, dtype=np.float32)[:1]
    for _ in range(3):
        listener.see_step(step_of(x, y, y))
    assert listener.snapshot is snapshot
    assert listener.weights is None
    assert listener.state(b"")["number"] == 3


def test_snapshots_take_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a step takes 10 ms and a snapshot 100 ms: at most one in 5 seconds."""
    listener = watch(lenet(rng=np.random.default_rng(0)))
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = clock.monotonic = lambda: clock.now
    monkeypatch.setattr("handcnn.page.watching.time", clock)
    numbers = []

    def slow_snapshot(number: int, changes: object) -> dict[str, Any]:
        clock.now += 0.1
        numbers.append(number)
        return {"number": number}

    monkeypatch.setattr(listener, "_snapshot", slow_snapshot)
    listener.snapshot = {"number": 0, "front": []}
    x, y = np.zeros((1, 1, 28, 28), np.float32), np.eye(K, dtype=np.float32)[:1]
    for _ in range(3000):
        clock.now += 0.01
        listener.see_step(step_of(x, y, y))
        listener.asked_at = clock.now  # a page that never stops asking
    assert 5 <= len(numbers) <= 0.02 * clock.now / 0.1 + 1


def test_drawings_are_read_and_too_many_are_refused() -> None:
    net = lenet(rng=np.random.default_rng(0))
    listener = watch(net)
    listener.see_end(net, {})
    answer = listener.read(SEVEN)
    reading = read_digits(net, load_picture(io.BytesIO(SEVEN)))
    assert (answer["text"], answer["remark"]) == (reading.text, reading.doubt)
    np.testing.assert_allclose(answer["probabilities"], reading.digits[-1].probabilities, atol=1e-6)
    while listener.room.acquire(blocking=False):
        pass
    message = refused(lambda: listener.read(SEVEN), HandcnnError)
    assert message == "the network is busy with other drawings; try again"


def test_clothes_named_by_digits_are_read_whole() -> None:
    """Regression: they were read as handwritten digits."""
    net, preparation = lenet(rng=np.random.default_rng(0)), Preparation("whole", "dark")
    listener = watch(net, preparation=preparation)
    listener.see_end(net, {})
    image = prepare(load_picture(io.BytesIO(SEVEN)), preparation).image
    expected = net.predict_proba(image[None, None] / np.float32(255))[0]
    answer = listener.read(SEVEN)
    assert answer["text"] == DIGITS[expected.argmax()]
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "query", [b"", b"number=x&snapshot=-5&image=99999999999", b"image=11", b"%"]
)
def test_a_query_cannot_do_harm(query: bytes) -> None:
    assert watch(lenet(rng=np.random.default_rng(0))).state(query)["number"] == 0


def test_a_thousand_polls_and_a_dead_page_and_the_server_ends_with_its_block() -> None:
    listener = watch(lenet(rng=np.random.default_rng(0)))
    with server.listen(None) as socket_, server.serving(socket_, "watch.html", listener.routes()):
        port = socket_.getsockname()[1]
        page = Page(port)
        with socket.create_connection(("127.0.0.1", port)) as dead:
            dead.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            for _ in range(1000):
                assert page.get("/state?number=0&snapshot=0")["snapshot"] is None
        for path, says in (
            ("/single-step", "no single step was taken yet; pause, then take one step\n"),
            ("/draw.html", "nothing here; the page is at /\n"),
        ):
            assert refused(partial(page.get, path)) == says
    with pytest.raises(OSError, match="refused"):
        page.get("/")


def test_the_samples_have_equally_many_of_each_class() -> None:
    labels = np.random.default_rng(0).integers(K, size=500)
    chosen = samples(labels, K)
    np.testing.assert_array_equal(labels[chosen], np.repeat(np.arange(K), 3))
    assert len(set(chosen)) == 30
    assert len(samples(labels[:7], K)) == 7
