"""What is compared, and the proof beforehand that all entries compute the same.

Entries in every case: `handcnn`; where it applies `three calls`, which is handcnn with forward,
backward and update_params one by one (in prediction, forward batch by batch); and a baseline,
PyTorch or the documented loops. Before they are timed, all start from the same weights and must
give the same outputs, gradients and updated weights.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np

from benchmarks import naive
from benchmarks.machine import has_pytorch
from benchmarks.timing import Side
from data import Batches
from handcnn import (
    Conv2D,
    HandcnnError,
    HiddenLayer,
    InputLayer,
    Network,
    OutputLayer,
    documented_network,
    loss_gradient,
)
from handcnn.layers import ParameterLayer
from handcnn.training import train_epoch
from handcnn.types import Array, Shape

# The largest difference allowed, relative to the largest absolute value in an array. Sums of
# thousands of float32 products differ by about 1e-6 of it from library to library.
TOLERANCE = 2e-5
CHECKED_RATE = 1.0  # so large that a wrong update shows in the weights
TIMED_RATE = 1e-5  # so small that thousands of steps on one batch stay ordinary numbers
BATCH = 64  # the documented batch size
LOOP_IMAGES = 2  # for the documented loops, whose times are multiplied

MakeNetwork = Callable[[float], Network]
Sides = dict[str, Side]  # by the name of the entry


class Case(NamedTuple):
    """One comparison; `seconds` and `rounds` as in `timing.take_turns`."""

    name: str
    title: str
    sides: Callable[[], Sides]
    seconds: float
    rounds: int = 5
    scale: float = 1  # multiplies the times of the baseline


def all_cases(quick: bool) -> list[Case]:
    """Return the cases in the order in which they are shown; quick ones take a second or so."""
    batch, images, rows = (16, 500, 640) if quick else (BATCH, 10_000, 55_000)
    cases = [
        Case(f"step-{n}", f"training step, batch {n}", partial(steps, documented, n), 12)
        for n in ((16,) if quick else (16, 64, 256))
    ]
    title = f"step, batch {batch}"
    cases += [
        Case("epoch", f"epoch of {rows:,} images", partial(epochs, rows), 30, rounds=3),
        Case("predict", f"prediction of {images:,}", partial(predictions, images), 15),
        Case("general", f"{title}, 16 channels, 5x5", partial(steps, general, batch), 14),
    ]
    for name, (layer, shape) in layers().items():
        for way in ("forward", "backward"):
            sides = partial(passes, layer, (batch, *shape), way)
            cases.append(Case(f"{name}-{way}", f"{layer} {way}", sides, 3))
    title, scale = f"{title}, the documented loops", batch / LOOP_IMAGES
    cases.append(Case("loops", title, partial(loops, batch), 6, 3, scale))
    return [case._replace(seconds=0.3, rounds=2) for case in cases] if quick else cases


def load_pytorch() -> ModuleType | None:
    """Return `benchmarks.pytorch`, or None where PyTorch is not installed."""
    return import_module("benchmarks.pytorch") if has_pytorch() else None


# Networks and data -------------------------------------------------------------------------------


def documented(learning_rate: float) -> Network:
    """Return the documented network, always with the same weights."""
    return documented_network(learning_rate, rng=np.random.default_rng(0))


def general(learning_rate: float) -> Network:
    """Return a network with a second convolution, which reads 16 channels with 5x5 kernels."""
    rng = np.random.default_rng(0)
    layers = [
        InputLayer(),
        Conv2D(1, 16, 3, padding=1, learning_rate=learning_rate, rng=rng),
        Conv2D(16, 16, 5, padding=2, learning_rate=learning_rate, rng=rng),
        HiddenLayer(16 * 28 * 28, 64, learning_rate, rng=rng),
        OutputLayer(64, 10, learning_rate, rng=rng),
    ]
    return Network(layers, input_shape=(1, 28, 28))


def layers() -> dict[str, tuple[ParameterLayer, Shape]]:
    """Return the layers that are timed one by one, each with the shape of one input."""
    rng = np.random.default_rng(0)
    return {
        "conv": (Conv2D(1, 32, 3, padding=1, rng=rng), (1, 28, 28)),
        "hidden": (HiddenLayer(32 * 28 * 28, 64, rng=rng), (32, 28, 28)),
        "output": (OutputLayer(64, 10, rng=rng), (64,)),
        "conv5x5": (Conv2D(16, 16, 5, padding=2, rng=rng), (16, 28, 28)),
    }


def random_batch(n: int) -> tuple[Array, Array]:
    """Return n random images (n, 1, 28, 28) and random one-hot labels (n, 10)."""
    rng = np.random.default_rng(1)
    x = rng.random((n, 1, 28, 28), dtype=np.float32)
    return x, np.eye(10, dtype=np.float32)[rng.integers(0, 10, n)]


# Do they compute the same? -----------------------------------------------------------------------


def check_same(who: str, theirs: Mapping[str, Array], ours: Mapping[str, Array]) -> None:
    """Raise `HandcnnError` if an array of ours is missing in theirs or differs too much."""
    for name, expected in ours.items():
        found = theirs.get(name, np.empty(0))
        if found.shape != expected.shape:
            fault = f"has shape {found.shape}, in handcnn {expected.shape}"
        else:
            difference = np.abs(found - expected).max() / np.abs(expected).max()
            if difference <= TOLERANCE:  # never true of NaN
                continue
            fault = f"differs by {difference:.1e} of its largest value, more than {TOLERANCE:.0e}"
        raise HandcnnError(f"not timed, because {who} computes something else: {name} {fault}")


def named(
    y_pred: Array, gradients: Mapping[str, Array], updated: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the arrays of one training step by names that an error can show."""
    return (
        {"the output": y_pred}
        | {f"the gradient of {name}": array for name, array in gradients.items()}
        | {f"{name} after the step": array for name, array in updated.items()}
    )


def observe(make: MakeNetwork, x: Array, y: Array) -> dict[str, Array]:
    """Return output, gradients and updated weights of one step, the same in both ways."""
    net = make(CHECKED_RATE)
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    gradients = net.gradients()
    net.update_params()
    literal = named(y_pred, gradients, net.parameters())
    net = make(CHECKED_RATE)
    ours = literal | named(net.train_step(x, y), {}, net.parameters())
    check_same("handcnn in three calls", literal, ours)
    return ours


def check_steps(make: MakeNetwork, x: Array, y: Array) -> None:
    """Check that a step is the same in handcnn and in every form of PyTorch's."""
    ours = observe(make, x, y)
    if pytorch := load_pytorch():
        for form in pytorch.FORMS:
            net = pytorch.Baseline(make(CHECKED_RATE))
            images, labels = pytorch.tensor(x), pytorch.tensor(y.argmax(axis=1))
            y_pred = net.outputs(images).numpy()
            net.backward(net.forward(images), labels)
            gradients = net.in_handcnn(net.gradients())
            net.update(form)
            theirs = named(y_pred, gradients, net.in_handcnn(net.parameters))
            check_same(f"PyTorch, {form},", theirs, ours)


# The two sides -----------------------------------------------------------------------------------


def three_calls(net: Network, x: Array, y: Array) -> None:
    """Take one training step, literally."""
    y_pred = net.forward(x)
    net.backward(loss_gradient(y_pred, y))
    net.update_params()


def steps(make: MakeNetwork, n: int) -> Sides:
    """Compare training steps on one batch of n images."""
    x, y = random_batch(n)
    check_steps(make, x, y)
    sides: Sides = {
        "handcnn": partial(make(TIMED_RATE).train_step, x, y),
        "three calls": partial(three_calls, make(TIMED_RATE), x, y),
    }
    if pytorch := load_pytorch():
        sides["PyTorch"] = pytorch.Baseline(make(TIMED_RATE)).steps(x, y)
    return sides


def epochs(rows: int) -> Sides:
    """Compare passes over a training set as large as MNIST; its pixels do not matter for speed.

    handcnn makes its batches from bytes, as in training; PyTorch's images are floats already.
    """
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, rows, dtype=np.uint8)
    batches = Batches(images, labels, BATCH, rng)
    check_steps(documented, *next(iter(batches)))
    sides: Sides = {"handcnn": partial(train_epoch, documented(TIMED_RATE), batches)}
    if pytorch := load_pytorch():
        data = pytorch.to_tensors(images, labels)
        sides["PyTorch"] = partial(pytorch.Baseline(documented(TIMED_RATE)).epoch, *data, BATCH)
    return sides


def forward_in_batches(net: Network, x: Array) -> Array:
    """Return the probabilities (N, 10) by `forward` alone."""
    return np.concatenate([net.forward(x[i : i + BATCH]) for i in range(0, len(x), BATCH)])


def predictions(n: int) -> Sides:
    """Compare predictions of n images; PyTorch takes the batch size that suits it best."""
    x, _ = random_batch(n)
    net = documented(TIMED_RATE)
    ours = {"the output": net.predict_proba(x)}
    check_same("handcnn's forward", {"the output": forward_in_batches(net, x)}, ours)
    sides: Sides = {
        "handcnn": partial(net.predict, x),
        "three calls": partial(forward_in_batches, net, x),
    }
    if pytorch := load_pytorch():
        theirs, images = pytorch.Baseline(net), pytorch.tensor(x)
        y_pred = theirs.logits(images, BATCH).softmax(1).numpy()
        check_same("PyTorch", {"the output": y_pred}, ours)
        sizes = (32, 64, 256, 1000)
        sides["PyTorch"] = {
            f"batches of {size}": partial(theirs.predict, images, size) for size in sizes
        }
    return sides


def passes(layer: ParameterLayer, shape: Shape, way: str) -> Sides:
    """Compare one way through one layer: forward, or backward with all its gradients."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal(shape, np.float32)
    output = layer.forward(x)
    dout = rng.standard_normal(output.shape, np.float32)
    net = Network([layer])
    ours = {"the output": output, "dx": layer.backward(dout), **net.gradients()}
    run = partial(layer.forward, x) if way == "forward" else partial(layer.backward, dout)
    sides: Sides = {"handcnn": run}
    if pytorch := load_pytorch():
        theirs = pytorch.Baseline(net)
        runs = theirs.passes(x, dout)
        dx, *gradients = runs["backward"]()
        found = {"the output": runs["forward"]().numpy(), "dx": dx.numpy()}
        check_same("PyTorch", found | theirs.in_handcnn(gradients), ours)
        sides["PyTorch"] = runs[way]
    return sides


def loops(n: int) -> Sides:
    """Compare a step on n images with the documented loops on `LOOP_IMAGES`."""
    x, y = random_batch(n)
    few_x, few_y = x[:LOOP_IMAGES], y[:LOOP_IMAGES]
    parameters = documented(CHECKED_RATE).parameters()
    y_pred, gradients = naive.train_step(parameters, few_x, few_y, 1, 1, CHECKED_RATE)
    theirs = named(y_pred, gradients, parameters)
    check_same("the documented loops", theirs, observe(documented, few_x, few_y))
    parameters = documented(TIMED_RATE).parameters()
    slow = partial(naive.train_step, parameters, few_x, few_y, 1, 1, TIMED_RATE)
    return {"handcnn": partial(documented(TIMED_RATE).train_step, x, y), "loops": slow}
