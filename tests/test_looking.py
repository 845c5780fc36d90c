"""Looking at a network disturbs nothing, even between its forward and its backward pass.

Oracle: the gradients and the next step of an equal network at which nobody looked.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import compare, copies, filled_network
from PIL import Image

from handcnn import (
    Conv2D,
    HiddenLayer,
    MaxPool2D,
    Network,
    OutputLayer,
    ReLU,
    loss_gradient,
    plots,
)
from handcnn.layers import Layer
from handcnn.page import view
from handcnn.page.training_view import Scene
from handcnn.page.watching import Watch
from handcnn.preparation import Preparation
from handcnn.storage.checkpoints import no_steps
from handcnn.training import Metrics, Step, evaluate
from handcnn.types import Array

CLASSES = [*"abc"]
AS_DIGITS = Preparation("digits")
LINE = np.zeros((28, 28), np.uint8)
LINE[4:24, 12:16] = 255


def batch(n: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.random((n, 1, 28, 28)), np.eye(3)[rng.integers(3, size=n)]


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(255 - LINE).save(file, "PNG")
    return file.getvalue()


LAYERS: dict[str, Callable[[], list[Layer]]] = {
    "fused": lambda: [
        Conv2D(1, 2, 3, dtype=np.float64),
        HiddenLayer(2 * 26 * 26, 4, dtype=np.float64),
        OutputLayer(4, 3, dtype=np.float64),
    ],
    "pooled": lambda: [
        Conv2D(1, 2, 3, dtype=np.float64),
        MaxPool2D(3),
        ReLU(),
        OutputLayer(2 * 8 * 8, 3, dtype=np.float64),
    ],
}
OTHERS, LABELS = batch(20, seed=2)  # as many as fusing needs


def watch_a_step(net: Network) -> None:
    """Show all that the training page shows of a single step."""
    images, labels = np.stack([LINE, LINE]), np.array([0, 1])
    scene = Scene(1, 2, 20, no_steps(), 0, images, labels, CLASSES, AS_DIGITS, {"run": ""})
    watch = Watch(net, scene, [], lambda: None, lambda: None)
    watch.look_at_next(single=True)
    y_pred = net.predict_proba(OTHERS)
    watch.see_step(Step(1, 2, 2, 0.5, Metrics(0.5, 0.5), 1, 0.1, OTHERS, LABELS, y_pred))
    for look in (watch.state, watch.single_step):
        look(b"layer=0&unit=1")


# Whatever reads a network: add a new one here.
LOOKS: dict[str, Callable[[Network], object]] = {
    "predict": lambda net: net.predict(OTHERS),
    "predict_proba of one image": lambda net: net.predict_proba(OTHERS[:1]),
    "evaluate": lambda net: evaluate(net, iter([(OTHERS, LABELS)])),
    "the page": lambda net: (
        view.describe(net, CLASSES, ""),
        view.read(net, CLASSES, AS_DIGITS, picture()),
    ),
    "the training page": watch_a_step,
    "the plot of the filters": lambda net: plots.plot_filters(net, LINE, "title"),
    "the table": str,
    "architecture": lambda net: net.architecture(),
    "with_parameters": lambda net: net.with_parameters(copies(net.parameters())).forward(OTHERS),
    "save": lambda net: net.save("weights.npz"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_disturbs_nothing(
    look: Callable[[Network], object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net, alone = (Network(filled_network(LAYERS[name]()).layers, (1, 28, 28)) for _ in range(2))
    for parameter in net.parameters().values():  # NumPy raises on any attempt to write
        parameter.flags.writeable = False
    (x, y), y_pred = batch(4, seed=1), {}
    for one in (net, alone):
        y_pred[one] = one.forward(x)
    kept = y_pred[net].copy()
    look(net)
    np.testing.assert_array_equal(y_pred[net], kept)
    for one in (net, alone):
        one.backward(loss_gradient(y_pred[one], y))
    compare(net.gradients(), alone.gradients(), rounding=0)
    look(net)
    compare(net.gradients(), alone.gradients(), rounding=0)
    compare(net.parameters(), alone.parameters(), rounding=0)
