"""The cases of the benchmark, and the check that all entries compute the same.

An entry is a network in one of several forms: `handcnn` itself; in `three calls`, without fusing
and sharing; with plain `loops` for its convolutions; or in PyTorch.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.machine import has_pytorch
from benchmarks.naive import LoopConv2D
from benchmarks.timing import Run
from handcnn import Conv2D, HandcnnError, HiddenLayer, MaxPool2D, Network, OutputLayer, ReLU
from handcnn.layers import Layer
from handcnn.loss import loss_gradient
from handcnn.models import deep, documented_network, lenet
from handcnn.types import Array

# The largest difference between arrays of two entries, relative to their norm. In float32, the
# timed dtype, a ReLU turned on or off by rounding was seen to change a gradient by 0.3 %.
TOLERANCES = {"float64": 1e-9, "float32": 1e-2}
CHECKED_RATE = 1.0  # so that a step changes the parameters by their gradient
TIMED_RATE = 1e-5  # so small that the numbers stay normal after thousands of steps on one batch
BATCH = 64  # the documented batch size
FORMS = ("handcnn", "three calls", "PyTorch", "PyTorch, channels last")


class Case(NamedTuple):
    """One comparison: a method of a network, its arguments, and the forms to compare."""

    name: str
    layers: Sequence[Layer]
    method: str
    arguments: Sequence[Array]
    forms: Sequence[str] = FORMS


def networks() -> dict[str, list[Layer]]:
    """Return the layers of every network whose training step is timed."""
    return {
        "documented": documented_network().layers,
        "5x5": [
            *(Conv2D(1, 16, 3, padding=1), Conv2D(16, 16, 5, padding=2)),
            *(HiddenLayer(16 * 28 * 28, 64), OutputLayer(64, 10)),
        ],
        "lenet": lenet().layers,
        "wide": [  # lenet with twice as many filters and units
            *(Conv2D(1, 32, 5), MaxPool2D(2), ReLU(), Conv2D(32, 64, 5), MaxPool2D(2), ReLU()),
            *(HiddenLayer(64 * 4 * 4, 256), OutputLayer(256, 10)),
        ],
        "3x3": [
            *(Conv2D(1, 32, 3, padding=1), ReLU()),
            *(Conv2D(32, 32, 3, padding=1), MaxPool2D(2), ReLU()),
            *(Conv2D(32, 64, 3, padding=1), MaxPool2D(2), ReLU()),
            *(HiddenLayer(64 * 7 * 7, 128), OutputLayer(128, 10)),
        ],
        "deep": deep().layers,
    }


def all_cases(quick: bool) -> list[Case]:
    """Return the cases in the order of the output."""
    batch, looped, images = (16, 1, 500) if quick else (BATCH, BATCH, 10_000)
    sizes = {"documented": (16,) if quick else (16, 64, 256)}
    cases = [
        Case(f"step {name} {n}", layers, "train_step", random_batch(n))
        for name, layers in networks().items()
        for n in sizes.get(name, (batch,))
    ]
    layers, x = documented_network().layers, random_batch(images)[:1]
    return [
        *cases,
        Case(
            f"step loops {looped}", layers, "train_step", random_batch(looped), ("handcnn", "loops")
        ),
        Case(f"predict {images}", layers, "predict_proba", x),
    ]


def random_batch(n: int) -> tuple[Array, Array]:
    """Return n random images (n, 1, 28, 28) and random one-hot labels (n, 10)."""
    rng = np.random.default_rng(1)
    x = rng.random((n, 1, 28, 28), dtype=np.float32)
    return x, np.eye(10, dtype=np.float32)[rng.integers(0, 10, n)]


# The forms of a network --------------------------------------------------------------------------


class ThreeCalls(Network):
    """A network without fusing and sharing: forward, backward and update_params one by one."""

    def __init__(self, net: Network) -> None:
        super().__init__(net.layers)

    def train_step(self, x: Array, y: Array) -> Array:
        """Take one training step; return y_pred (N, K), computed before the update."""
        y_pred = self.forward(x)
        self.backward(loss_gradient(y_pred, y))
        self.update_params()
        return y_pred

    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities (N, K)."""
        return np.concatenate([self.forward(x[i : i + BATCH]) for i in range(0, len(x), BATCH)])


def in_form(net: Network, form: str) -> Network:
    """Return `net` in one of its forms."""
    match form:
        case "handcnn":
            return net
        case "three calls":
            return ThreeCalls(net)
        case "loops":
            layers = [LoopConv2D(**x.config()) if isinstance(x, Conv2D) else x for x in net.layers]
            return Network(layers).with_parameters(net.parameters())
        case _:
            from benchmarks.pytorch import ORDERS, Baseline  # takes a second, and may be missing

            return Baseline(net, ORDERS[form])


def enter(case: Case, learning_rate: float, dtype: str) -> dict[str, Network]:
    """Return the entries of a case, each with its own copy of the same parameters."""
    entries = {}
    for form in case.forms:
        if form.startswith("PyTorch") and not has_pytorch():
            continue
        net, rng, arrays = Network(case.layers), np.random.default_rng(0), {}
        for name, array in net.parameters().items():
            inputs = array[0].size if array.ndim == 4 else len(array)
            scale = np.sqrt(2 / inputs)  # signals keep their size
            arrays[name] = rng.normal(0, scale, array.shape).astype(dtype)
        entries[form] = in_form(net.with_parameters(arrays), form)
        entries[form].set_learning_rate(learning_rate)
    return entries


# The check that all compute the same -------------------------------------------------------------


def checked_runs(case: Case) -> dict[str, Run]:
    """Check that all entries compute the same; return the calls to time, by form.

    Raises:
        HandcnnError: an entry computes something else.
    """
    for dtype, tolerance in TOLERANCES.items():
        arguments = [array.astype(dtype) for array in case.arguments]
        entries = enter(case, CHECKED_RATE, dtype)
        found = {form: effects(net, case.method, arguments) for form, net in entries.items()}
        for form, arrays in found.items():
            check_same(form, arrays, found["handcnn"], tolerance)
    entries = enter(case, TIMED_RATE, "float32")
    return {
        form: partial(getattr(net, case.method), *case.arguments) for form, net in entries.items()
    }


def effects(net: Network, method: str, arguments: Sequence[Array]) -> dict[str, Array]:
    """Call the method; return its output and its changes to the parameters."""
    before = copy.deepcopy(net.parameters())
    output = getattr(net, method)(*arguments)
    changes = {f"the change of {k}": after - before[k] for k, after in net.parameters().items()}
    return {"the output": output} | changes


def check_same(
    who: str, theirs: Mapping[str, Array], ours: Mapping[str, Array], tolerance: float
) -> None:
    """Raise `HandcnnError` if an array of theirs is too far from ours."""
    for name, array in ours.items():
        away = np.linalg.norm(theirs[name] - array) / (np.linalg.norm(array) or 1)
        if not away <= tolerance:  # also true for NaN
            raise HandcnnError(
                f"not timed, because {who} computes something else: {name} differs from handcnn's "
                f"by {away:.1e} of its norm, more than {tolerance:.0e}"
            )
