"""ReLU and MaxPool2D: values, gradients, ties, and the effect of their order.

Oracles: `reference`, loops written from the formulas; cases worked by hand; PyTorch, if it is
installed. test_layers.py tests what holds for every layer, and their central differences.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import reference
from builders import POOLINGS, close, random
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.machine import has_pytorch
from handcnn import MaxPool2D, ReLU
from handcnn.layers import Layer
from handcnn.types import Array, Shape

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

SHAPES = [(1,), (7,), (4, 5), (0, 5), (3, 2, 4), (2, 3, 4, 5), (1, 1, 1, 1)]  # of x, for ReLU

LAYERS: dict[str, tuple[Layer, Shape]] = {
    **{f"ReLU, {shape}": (ReLU(), shape) for shape in SHAPES},
    **{
        f"MaxPool2D, {name}": (MaxPool2D(size, stride), shape)
        for name, (shape, size, stride) in POOLINGS.items()
    },
}
every_layer = pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())


def forward_by_loops(layer: Layer, x: Array) -> Array:
    if isinstance(layer, MaxPool2D):
        return reference.max_pool_forward(x, layer.size, layer.stride)
    return reference.relu(x)


def backward_by_loops(layer: Layer, x: Array, dout: Array) -> Array:
    if isinstance(layer, MaxPool2D):
        return reference.max_pool_backward(x, layer.size, layer.stride, dout)
    return reference.relu_backward(x, dout)


def compare_with_loops(layer: Layer, x: Array) -> None:
    """Values must be equal; gradients of overlapping windows are sums."""
    z = layer.forward(x)
    np.testing.assert_array_equal(z, forward_by_loops(layer, x))
    dout = random(z.shape, 4).astype(x.dtype)
    close(layer.backward(dout), backward_by_loops(layer, x, dout), 8 * np.finfo(x.dtype).eps)


# --- values and gradients ------------------------------------------------------------------------


@every_dtype
@every_layer
def test_layers_agree_with_the_loops(layer: Layer, shape: Shape, dtype: npt.DTypeLike) -> None:
    compare_with_loops(layer, random(shape, 3).astype(dtype))


def test_relu_worked_by_hand() -> None:
    """At 0 and at -0 the slope is 0."""
    layer, x = ReLU(), np.array([[-2.0, 3.0, 0.0], [-0.0, 1e-300, -1e-300]])
    np.testing.assert_array_equal(layer.forward(x), [[0, 3, 0], [0, 1e-300, 0]])
    dout = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_array_equal(layer.backward(dout), [[0, -2, 0], [0, 5, 0]])


def test_pooling_worked_by_hand() -> None:
    """The fifth column and the third row are in no window. The 7 is in two windows of the second.

    1 5 | 2 0 |  0         5 8         dout = 1 2       0 1 0 0 0
    3 4 | 8 6 |  9                                      0 0 2 0 0
    7 0   1 2   -1                                      0 0 0 0 0
    """
    x = np.array([[[[1.0, 5, 2, 0, 0], [3, 4, 8, 6, 9], [7, 0, 1, 2, -1]]]])
    layer = MaxPool2D(2)
    np.testing.assert_array_equal(layer.forward(x), [[[[5, 8]]]])
    dx = layer.backward(np.array([[[[1.0, 2.0]]]]))
    np.testing.assert_array_equal(dx, [[[[0, 1, 0, 0, 0], [0, 0, 2, 0, 0], [0, 0, 0, 0, 0]]]])

    overlapping = MaxPool2D(2, 1)  # the 8 is the largest of four windows, the 9 of two
    np.testing.assert_array_equal(overlapping.forward(x), [[[[5, 8, 8, 9], [7, 8, 8, 9]]]])
    dx = overlapping.backward(np.array([[[[1.0, 2, 3, 4], [5, 6, 7, 8]]]]))
    np.testing.assert_array_equal(dx, [[[[0, 1, 0, 0, 0], [0, 0, 18, 0, 12], [5, 0, 0, 0, 0]]]])


# --- ties ----------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5, np.inf, -np.inf])
@pytest.mark.parametrize(("shape", "size", "stride"), POOLINGS.values(), ids=POOLINGS.keys())
def test_of_a_blank_window_the_first_entry_gets_the_gradient(
    shape: Shape, size: int, stride: int, value: float, dtype: npt.DTypeLike
) -> None:
    """An oracle without loops, also for overlapping windows.

    Fails if every entry equal to the maximum gets the gradient, or if the last one does.
    """
    layer, x = MaxPool2D(size, stride), np.full(shape, value, dtype)
    z = layer.forward(x)
    np.testing.assert_array_equal(z, value)
    dout, expected = random(z.shape, 2).astype(dtype), np.zeros(shape)
    OH, OW = z.shape[2:]
    expected[:, :, : stride * OH : stride, : stride * OW : stride] = dout
    np.testing.assert_array_equal(layer.backward(dout), expected)


@every_dtype
@pytest.mark.parametrize(
    ("window", "place"),
    [
        ([[0, 0], [0, 0]], (0, 0)),
        ([[0, 1], [1, 0]], (0, 1)),
        ([[0, 0], [1, 1]], (1, 0)),
        ([[-1, -1], [-1, 0]], (1, 1)),
        ([[-3, -2], [-2, -2]], (0, 1)),
        ([[-0.0, 0.0], [0.0, -0.0]], (0, 0)),
        ([[0.0, -0.0], [-0.0, 0.0]], (0, 0)),
        ([[-1, -0.0], [0.0, -1]], (0, 1)),
        ([[1, np.nextafter(np.float32(1), np.float32(2))], [1, 1]], (0, 1)),  # no tie
    ],
)
def test_exactly_one_of_equal_entries_gets_the_gradient(
    window: list[list[float]], place: tuple[int, int], dtype: npt.DTypeLike
) -> None:
    layer = MaxPool2D(2)
    layer.forward(np.array([[window]], dtype))
    expected = np.zeros((2, 2))
    expected[place] = 3
    np.testing.assert_array_equal(layer.backward(np.array([[[[3.0]]]], dtype)), [[expected]])


@settings(max_examples=100)
@given(
    st.tuples(*[st.integers(1, 2)] * 2, *[st.integers(4, 8)] * 2),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 2**16),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_ties_in_any_windows(
    shape: Shape, size: int, stride: int, seed: int, dtype: npt.DTypeLike
) -> None:
    """With images of only three values. Every gradient arrives exactly once."""
    x = np.random.default_rng(seed).integers(-1, 2, shape).astype(dtype)
    x[x == 0] *= np.where(random(x[x == 0].shape, seed) > 0, 1, -1)  # zeros of both signs
    layer = MaxPool2D(size, stride)
    compare_with_loops(layer, x)
    dout = np.ones_like(layer.z)
    assert layer.backward(dout).sum() == dout.size


# --- both orders ---------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize(("shape", "size", "stride"), POOLINGS.values(), ids=POOLINGS.keys())
def test_pooling_before_relu_is_relu_before_pooling(
    shape: Shape, size: int, stride: int, dtype: npt.DTypeLike
) -> None:
    """The values are equal, and so are the gradients with respect to x, even with ties.

    If the maximum of a window is above 0, it is the same entry before and after ReLU. If not, the
    gradient is 0 in both orders: either the mask stops it at once, or all entries of the window are
    0 after ReLU, the first one gets the gradient, and the mask stops it there.
    """
    x = np.random.default_rng(1).integers(-2, 2, shape).astype(dtype)
    x[x == 0] *= np.where(random(x[x == 0].shape, 2) > 0, 1, -1)
    relu, pool = ReLU(), MaxPool2D(size, stride)
    z = relu.forward(pool.forward(x))
    dout = random(z.shape, 3).astype(dtype)
    dx = pool.backward(relu.backward(dout))

    np.testing.assert_array_equal(pool.forward(relu.forward(x)), z)
    between = pool.backward(dout)
    np.testing.assert_array_equal(relu.backward(between), dx)
    assert (between != dx).any() == (0 in z)
    np.testing.assert_array_equal(between[x > 0], dx[x > 0])


# --- PyTorch -------------------------------------------------------------------------------------

IN_PYTORCH = """
import sys
import numpy as np
import torch

inputs, results = np.load(sys.argv[1]), {}
for name in {key.split("|")[0] for key in inputs}:
    x = torch.from_numpy(inputs[f"{name}|x"]).requires_grad_()
    size, stride = inputs[f"{name}|pooling"].tolist()
    z = torch.nn.functional.max_pool2d(x, size, stride) if size else torch.relu(x)
    z.backward(torch.from_numpy(inputs[f"{name}|dout"]))
    results |= {f"{name}|z": z.detach().numpy(), f"{name}|dx": x.grad.numpy()}
np.savez(sys.argv[1], **results)
"""


def test_pytorch_agrees(tmp_path: Path) -> None:
    """For numbers that all differ, and for numbers that are mostly equal."""
    if not has_pytorch():
        pytest.skip("PyTorch is not installed: pip install -e '.[bench]'")
    inputs: dict[str, Array] = {}
    ours: dict[str, Array] = {}
    for name, (layer, shape) in LAYERS.items():
        if 0 in shape:  # PyTorch refuses to pool zero images
            continue
        ties = np.random.default_rng(1).integers(-1, 2, shape).astype(np.float64)
        for kind, x in (("random", random(shape, 3)), ("ties", ties)):
            key = f"{name}, {kind}"
            z = layer.forward(x)
            dout = random(z.shape, 4)
            pooling = (layer.size, layer.stride) if isinstance(layer, MaxPool2D) else (0, 0)
            inputs |= {f"{key}|x": x, f"{key}|dout": dout, f"{key}|pooling": np.array(pooling)}
            ours |= {f"{key}|z": z, f"{key}|dx": layer.backward(dout)}
    file = tmp_path / "arrays.npz"
    np.savez(file, **inputs)  # type: ignore[arg-type]
    # In a separate process, to keep PyTorch's threads out of the other tests.
    subprocess.run([sys.executable, "-c", IN_PYTORCH, str(file)], check=True)
    with np.load(file) as theirs:
        assert set(theirs) == set(ours)
        for key, array in ours.items():
            close(array, theirs[key], 1e-14, key)
