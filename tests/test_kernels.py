"""The three maps of a convolution, cut into blocks and pieces of any size and shared by threads.

Oracles: `reference`, loops written from the documented formulas. Small images would fit into one
block and one piece, so the sizes at which things are cut are drawn as well.
"""

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from handcnn.kernels import im2col as convolution
from handcnn.kernels import products, threads
from handcnn.kernels.im2col import (
    correlate,
    kernels_and_bias,
    padded,
    spread,
    tap_gradient,
    tap_matrix,
    windows_by_row,
)
from handcnn.kernels.threads import use_threads

Array = np.ndarray
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}


@st.composite
def cuts(draw: Callable[..., int]) -> dict[str, int]:
    """Sizes at which things are cut: so small that there is something to cut."""
    return {
        "BLOCK": draw(st.integers(0, 2000)),  # bytes
        "COLUMNS": draw(st.integers(0, 12)),
        "MANY_TAPS": draw(st.sampled_from([0, 1000])),
        "MOST": draw(st.sampled_from([0, 100, 10**6])),
    }


@settings(deadline=None, max_examples=150)
@given(reference.convolutions(), cuts(), st.integers(1, 3))
def test_the_loops_agree(geometry: tuple[int, ...], sizes: dict[str, int], count: int) -> None:
    n, c, h, w, f, k, s, p = geometry
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((n, c, h, w)), rng.standard_normal((f, c, k, k))
    bias = rng.standard_normal((f, 1))
    expected = reference.conv_forward(x, weights, bias, s, p)
    dout = rng.standard_normal(expected.shape)
    dx, dweights, dbias = reference.conv_backward(x, weights, s, p, dout)

    last = dout.transpose(1, 2, 3, 0).copy()
    with (
        mock.patch.multiple(convolution, **sizes),
        mock.patch.object(threads, "WAKING", 1),
        use_threads(count),
    ):
        windows = windows_by_row(padded(x.transpose(1, 2, 3, 0), p), k, s, constant=1)
        A = tap_matrix(weights, bias)
        z = correlate(A, windows)
        dA = tap_gradient(last.reshape(f, len(last[0]), -1), windows)
        back, constant = spread(A, last, (c, h, w), k, s, p)
    for found, wanted in (
        (z.reshape(last.shape), expected.transpose(1, 2, 3, 0)),
        (kernels_and_bias(dA, weights.shape)[0], dweights),
        (kernels_and_bias(dA, weights.shape)[1], dbias),
        (back, dx.transpose(1, 2, 3, 0)),
        (constant, (bias[:, 0] @ dout.sum(axis=(2, 3)).T)),
    ):
        np.testing.assert_allclose(found, wanted, **ROUNDING)


@settings(deadline=None, max_examples=100)
@given(reference.convolutions())
def test_kernels_and_bias_come_out_as_they_went_in(geometry: tuple[int, ...]) -> None:
    _, c, _, _, f, k, _, _ = geometry
    rng = np.random.default_rng(0)
    weights, bias = rng.standard_normal((f, c, k, k)), rng.standard_normal((f, 1))
    found = kernels_and_bias(tap_matrix(weights, bias), weights.shape)
    np.testing.assert_array_equal(found[0], weights)
    np.testing.assert_array_equal(found[1], bias)


def test_many_taps_are_cut_into_blocks_and_few_are_not() -> None:
    """The two networks that are timed: 16 channels into 5x5, and the documented one."""
    many = windows_by_row(np.zeros((16, 32, 32, 64), np.float32), 5, 1, constant=1)
    few = windows_by_row(np.zeros((1, 30, 30, 64), np.float32), 3, 1, constant=1)
    assert many.shape == (14, 28, 5 * 81, 128)
    assert few.shape == (1, 28, 3 * 4, 28 * 64)
    for windows in (many, few):  # views: a copy would be k times as large
        assert windows.base is not None
        assert windows.strides[1] < windows.shape[2] * windows.strides[2]


@settings(deadline=None, max_examples=200)
@given(
    st.tuples(st.integers(0, 40), st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 200),
    st.integers(1, 9),
    st.integers(1, 3),
    st.sampled_from("CF"),
)
def test_long_products_are_products(
    shape: tuple[int, int, int], small: int, shortest: int, count: int, order: str
) -> None:
    length, k, m = shape
    rng = np.random.default_rng(0)
    a = np.asarray(rng.standard_normal((length, k)), order=order)
    b, c = rng.standard_normal((k, m)), rng.standard_normal((length, m))
    with (
        mock.patch.multiple(products, SMALL=small, SHORTEST=shortest, STEP=small),
        mock.patch.object(threads, "WAKING", 1),
        use_threads(count),
    ):
        found = products.rows_times(a, b), products.sum_of_rows(a, c), c.copy()
        products.descend(found[2], 2 * c, 0.25)
    for one, other in zip(found, (a @ b, a.T @ c, c / 2), strict=True):
        np.testing.assert_allclose(one, other, **ROUNDING)


@pytest.mark.parametrize("shape", [(9, 3), (7, 3), (8, 2), (3,)])
def test_a_step_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    a = np.zeros((8, 3))
    with mock.patch.object(products, "STEP", 6):
        if shape == (3,):  # NumPy would broadcast it, and so it is
            products.descend(a, np.ones(shape), 1.0)
            assert (a == -1).all()
        else:
            with pytest.raises(ValueError, match="broadcast"):
                products.descend(a, np.ones(shape), 1.0)
            assert not a.any()


@given(st.integers(0, 5000), st.integers(0, 600))
def test_equal_parts(length: int, longest: int) -> None:
    parts = convolution._equal_parts(length, longest)
    assert parts >= 1
    assert length % parts == 0
    assert parts == 1 or length // parts <= max(1, longest)
    fewer = [n for n in range(1, parts) if length % n == 0]
    assert all(length // n > longest for n in fewer)  # no larger parts would have done
