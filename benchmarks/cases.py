"""What is compared, with whom, and the proof beforehand that all of them compute the same.

A case makes its contestants: `handcnn`, where it applies also `unfolded` (handcnn without
folding), and a rival, which is PyTorch or the documented loops. Before any of them is timed, all
start from the same weights and must give the same outputs, gradients and updated weights.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from benchmarks import naive
from benchmarks.measure import Contestant, Threads, fastest
from data import TRAINING_IMAGES, Batches, load_dataset
from data.dataset import CACHE
from data.mnist import FILE
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
from handcnn.types import Array

# The largest difference allowed between two arrays, as a part of the largest absolute value in
# them. Sums of thousands of float32 products differ by about 1e-6 of it from library to library.
TOLERANCE = 2e-5
CHECKED_RATE = 1.0  # so large that a wrong update would show in the weights
TIMED_RATE = 1e-5  # so small that thousands of steps on one batch stay ordinary numbers
SCALED_IMAGES = 2  # that the documented loops are shown
BATCH = 64  # the documented one


class Setting(NamedTuple):
    """What all cases share: the thread counts, how to set them, and PyTorch, if it is there."""

    counts: list[int]
    threads: Threads
    rival: ModuleType | None  # benchmarks.rival


class Case(NamedTuple):
    """Something to compare; `seconds` and `rounds` as in `measure.take_turns`."""

    name: str
    title: str
    contestants: Callable[[Setting], list[Contestant]]
    seconds: float
    rounds: int = 5


def all_cases(quick: bool) -> list[Case]:
    """Return the cases, in the order in which they are shown; `quick` ones take seconds."""
    batch, images, rows = (16, 500, 640) if quick else (BATCH, 10_000, TRAINING_IMAGES["mnist"])
    mnist = (CACHE / FILE).exists()
    kind = "MNIST" if mnist else "random images"
    scaled = f"step, batch {batch}, the documented loops"
    sizes = (16,) if quick else (16, 64, 256)
    cases = [
        Case(f"step-{n}", f"training step, batch {n}", partial(steps, documented, n), 12)
        for n in sizes
    ]
    cases += [
        Case("epoch", f"epoch of {rows:,} {kind}", partial(epochs, rows, mnist), 30, rounds=3),
        Case("predict", f"prediction of {images:,}", partial(predictions, images), 15),
        Case(
            "general", f"step, batch {batch}, 16 channels, 5x5", partial(steps, general, batch), 14
        ),
    ]
    for name, (layer, _) in layers().items():
        cases += [
            Case(f"{name}-forward", f"{layer} forward", partial(passes, name, batch, True), 3),
            Case(f"{name}-backward", f"{layer} backward", partial(passes, name, batch, False), 3),
        ]
    cases.append(Case("loops", scaled, partial(loops, batch), 6, rounds=3))
    if quick:
        return [case._replace(seconds=0.3, rounds=2) for case in cases]
    return cases


# The networks and their data ---------------------------------------------------------------------


def documented(learning_rate: float) -> Network:
    """Return the documented network, always with the same weights."""
    return documented_network(learning_rate, rng=np.random.default_rng(0))


def general(learning_rate: float) -> Network:
    """Return a network whose second convolution has 16 channels to read and 5x5 kernels."""
    rng, rate = np.random.default_rng(0), learning_rate
    layers = [
        InputLayer(),
        Conv2D(1, 16, 3, padding=1, learning_rate=rate, rng=rng),
        Conv2D(16, 16, 5, padding=2, learning_rate=rate, rng=rng),
        HiddenLayer(16 * 28 * 28, 64, rate, rng=rng),
        OutputLayer(64, 10, rate, rng=rng),
    ]
    return Network(layers, input_shape=(1, 28, 28))


def layers() -> dict[str, tuple[ParameterLayer, tuple[int, ...]]]:
    """Return the layers that are timed apart, each with the shape of one input."""
    _, first, hidden, output = documented(TIMED_RATE).layers
    _, _, second, *_ = general(TIMED_RATE).layers
    return {
        "conv": (first, (1, 28, 28)),
        "hidden": (hidden, (32, 28, 28)),
        "output": (output, (64,)),
        "conv5x5": (second, (16, 28, 28)),
    }


def unfolded(net: Network) -> Network:
    """Switch folding off and return the network."""
    net.fold = False
    return net


def random_batch(n: int) -> tuple[Array, Array]:
    """Return n random images (n, 1, 28, 28) and random one-hot labels (n, 10)."""
    rng = np.random.default_rng(1)
    x = rng.random((n, 1, 28, 28), dtype=np.float32)
    return x, np.eye(10, dtype=np.float32)[rng.integers(0, 10, n)]


# The same? ---------------------------------------------------------------------------------------


def check_same(who: str, theirs: Mapping[str, Array], ours: Mapping[str, Array]) -> None:
    """Compare arrays by name.

    Raises:
        HandcnnError: one is missing or differs by more than `TOLERANCE`.
    """
    for name, expected in ours.items():
        found = theirs.get(name, np.empty(0))
        if found.shape != expected.shape:
            raise HandcnnError(
                f"not timed, because {who} computes something else: {name} has shape "
                f"{found.shape}, in handcnn {expected.shape}"
            )
        difference = np.abs(found - expected).max() / np.abs(expected).max()
        if not difference <= TOLERANCE:
            raise HandcnnError(
                f"not timed, because {who} computes something else: {name} differs by "
                f"{difference:.1e} of its largest value, more than {TOLERANCE:.0e}"
            )


def observe(net: Network, x: Array, y: Array) -> dict[str, Array]:
    """Return what handcnn makes of a batch: outputs, gradients, weights after the step."""
    reader = net.with_parameters({name: p.copy() for name, p in net.parameters().items()})
    reader.fold = getattr(net, "fold", True)
    y_pred = reader.forward(x)
    reader.backward(loss_gradient(y_pred, y))
    take_step(net, x, y)  # by another network: gradients that somebody reads may go another way
    return observation(y_pred, reader.gradients(), net.parameters())


def observation(
    y_pred: Array, gradients: Mapping[str, Array], updated: Mapping[str, Array]
) -> dict[str, Array]:
    """Return all arrays of one training step, each with a name that an error can show."""
    return {
        "the output": y_pred,
        **{f"the gradient of {name}": array for name, array in gradients.items()},
        **{f"{name} after the step": array for name, array in updated.items()},
    }


def check_steps(setting: Setting, make: Callable[[float], Network], x: Array, y: Array) -> None:
    """Check that a step is the same folded, unfolded and in PyTorch, in all of its forms."""
    ours = observe(make(CHECKED_RATE), x, y)
    check_same("handcnn unfolded", observe(unfolded(make(CHECKED_RATE)), x, y), ours)
    if setting.rival is None:
        return
    images, labels = setting.rival.tensor(x), setting.rival.tensor(y.argmax(axis=1))
    for form in setting.rival.UPDATES:
        theirs = setting.rival.Rival(make(CHECKED_RATE).layers)
        logits = theirs.forward(images)
        theirs.backward(logits, labels)
        gradients = theirs.gradients()
        theirs.update(form)
        y_pred = logits.detach().softmax(1).numpy()
        check_same(f"PyTorch, {form},", observation(y_pred, gradients, theirs.parameters()), ours)


# The contestants ---------------------------------------------------------------------------------


def take_step(net: Network, x: Array, y: Array) -> None:
    """Take one training step."""
    net.backward(loss_gradient(net.forward(x), y))
    net.update_params()


def fastest_update(
    setting: Setting, net: Network, x: Array, y: Array, count: int
) -> tuple[Any, str, Callable[[], None]]:
    """Return PyTorch's network, its fastest form of the update, and its step in that form."""
    theirs = setting.rival.Rival(net.layers)
    images, labels = setting.rival.tensor(x), setting.rival.tensor(y.argmax(axis=1))
    forms = {form: partial(theirs.step, images, labels, form) for form in setting.rival.UPDATES}
    with setting.threads.limited(count):
        form = fastest(forms)
    return theirs, form, forms[form]


def steps(make: Callable[[float], Network], n: int, setting: Setting) -> list[Contestant]:
    """Compare training steps on one batch of n images."""
    x, y = random_batch(n)
    check_steps(setting, make, x, y)
    folded, plain = make(TIMED_RATE), unfolded(make(TIMED_RATE))
    contestants = []
    for count in setting.counts:
        contestants += [
            Contestant("handcnn", count, partial(take_step, folded, x, y)),
            Contestant("unfolded", count, partial(take_step, plain, x, y)),
        ]
        if setting.rival:
            _, form, step = fastest_update(setting, make(TIMED_RATE), x, y, count)
            contestants.append(Contestant("PyTorch", count, step, note=form))
    return contestants


def epochs(rows: int, mnist: bool, setting: Setting) -> list[Contestant]:
    """Compare passes over all training images.

    handcnn makes its batches from bytes as in training; PyTorch's images are all floats already.
    """
    if mnist:
        images, labels = load_dataset("mnist", limit=rows).train
    else:
        rng = np.random.default_rng(2)
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, rows, dtype=np.uint8)
    x, y = next(iter(Batches(images, labels, BATCH)))
    check_steps(setting, documented, x, y)
    net = documented(TIMED_RATE)
    batches = Batches(images, labels, BATCH, np.random.default_rng(3))
    run = partial(train_epoch, net, batches)
    contestants = [Contestant("handcnn", count, run) for count in setting.counts]
    if setting.rival:
        floats = setting.rival.tensor(images[:, None] / np.float32(255))
        wanted = setting.rival.tensor(labels.astype(np.int64))
        for count in setting.counts:
            theirs, form, _ = fastest_update(setting, documented(TIMED_RATE), x, y, count)
            run = partial(theirs.epoch, floats, wanted, BATCH, form)
            contestants.append(Contestant("PyTorch", count, run, note=form))
    return contestants


def predictions(n: int, setting: Setting) -> list[Contestant]:
    """Compare predictions of n images; PyTorch takes the batch size that suits it best."""
    x, _ = random_batch(n)
    net, plain = documented(TIMED_RATE), unfolded(documented(TIMED_RATE))
    ours = {"the output": net.predict_proba(x)}
    check_same("handcnn unfolded", {"the output": plain.predict_proba(x)}, ours)
    if setting.rival:
        theirs = setting.rival.Rival(net.layers)
        images = setting.rival.tensor(x)
        outputs = [theirs.forward(part).detach().softmax(1).numpy() for part in images.split(500)]
        check_same("PyTorch", {"the output": np.concatenate(outputs)}, ours)
    contestants = []
    for count in setting.counts:
        contestants += [
            Contestant("handcnn", count, partial(net.predict, x)),
            Contestant("unfolded", count, partial(plain.predict, x)),
        ]
        if setting.rival:
            trial = {
                str(size): partial(theirs.predict, images[:1000], size)
                for size in (32, 64, 256, 1000)
            }
            with setting.threads.limited(count):
                best = fastest(trial)
            run = partial(theirs.predict, images, int(best))
            contestants.append(Contestant("PyTorch", count, run, note=f"batches of {best}"))
    return contestants


def passes(name: str, n: int, forward: bool, setting: Setting) -> list[Contestant]:
    """Compare one pass of one layer: `forward`, or else backward with all its gradients."""
    layer, shape = layers()[name]
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n, *shape), np.float32)
    output = layer.forward(x)
    dout = rng.standard_normal(output.shape, np.float32)
    ours = {"output": output, "dx": layer.backward(dout)}
    ours |= {"dweights": layer.dweights, "dbias": layer.dbias}
    run = partial(layer.forward, x) if forward else partial(layer.backward, dout)
    contestants = [Contestant("handcnn", count, run) for count in setting.counts]
    if setting.rival:
        theirs = setting.rival.RivalLayer(layer, x, dout)
        check_same("PyTorch", theirs.observe(), ours)
        run = theirs.forward if forward else theirs.backward
        contestants += [Contestant("PyTorch", count, run) for count in setting.counts]
    return contestants


def loops(n: int, setting: Setting) -> list[Contestant]:
    """Compare a step on n images with the documented loops on a few, their time multiplied."""
    x, y = random_batch(n)
    few_x, few_y = x[:SCALED_IMAGES], y[:SCALED_IMAGES]
    ours = observe(documented(CHECKED_RATE), few_x, few_y)
    plain = documented(CHECKED_RATE)
    theirs = observation(*naive.step(plain, few_x, few_y), plain.parameters())
    check_same("the documented loops", theirs, ours)
    net = documented(TIMED_RATE)
    count = setting.counts[0]
    slow = partial(naive.step, copy.deepcopy(net), few_x, few_y)
    return [
        Contestant("handcnn", count, partial(take_step, net, x, y)),
        Contestant("loops", count, slow, scale=n / SCALED_IMAGES),
    ]
