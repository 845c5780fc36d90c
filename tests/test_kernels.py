"""The kernels: products, convolutions and their matrices, cut into pieces and split over threads.

Oracles: `reference`, loops written from the documented formulas; `@` for the products. Small arrays
would fit into one piece, so the piece sizes are chosen at random, too.
"""

from typing import Any
from unittest import mock

import numpy as np
import pytest
import reference
from builders import Geometry, close, geometries, random
from hypothesis import given, settings
from hypothesis import strategies as st

from handcnn.kernels import convolution, products, threads
from handcnn.kernels.convolution import correlate, input_gradient, weight_gradient
from handcnn.kernels.im2col import im2col, row_windows
from handcnn.kernels.pooling import max_pool, max_pool_gradient
from handcnn.kernels.products import cut, matmul, sgd_update, slices
from handcnn.kernels.threads import use_threads
from handcnn.types import Shape


@st.composite
def cuts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw block sizes for a convolution, so small that arrays are cut."""
    return {
        "BLOCK_BYTES": draw(st.integers(0, 5000)),  # bytes
        "MIN_ROWS": 1,
        "SMALL_GRADIENT": draw(st.sampled_from([0, 30, 10**6])),  # numbers
        "MAX_PADDED_RATIO": draw(st.sampled_from([0, 4 / 3, 1000])),
    }


@settings(max_examples=150)
@given(geometries(), cuts(), st.integers(0, 1000), st.integers(1, 3))
def test_convolutions_agree_with_the_loops(
    geometry: Geometry, sizes: dict[str, Any], small: int, count: int
) -> None:
    N, C, H, W, F, k, s, p, *_ = geometry
    x, weights, bias = random((N, C, H, W), 1), random((F, C, k, k), 2), random((F, 1), 3)
    z = reference.conv_forward(x, weights, bias, s, p)
    dz = random(z.shape, 4)
    dx, dweights, dbias = reference.conv_backward(x, weights, s, p, dz)
    with (
        mock.patch.multiple(convolution, **sizes),
        mock.patch.multiple(products, SMALL_PRODUCT_COST=small, MIN_PIECE=1),
        mock.patch.object(threads, "WAKING_COST", 1),
        use_threads(count),
    ):
        close(correlate(x, weights, bias, s, p), z)
        close(correlate(x, weights, None, s, p) + bias[:, None], z)
        found = weight_gradient(x, dz, k, s, p)
        close(found[0], dweights)
        close(found[1], dbias)
        close(input_gradient(dz, weights, (C, H, W), s, p), dx)


@pytest.mark.parametrize(("C", "F", "k"), [(1, 2, 3), (16, 16, 3), (64, 64, 1)])
def test_no_images(C: int, F: int, k: int) -> None:
    """With each form of the weight gradient."""
    x, dz, weights = np.zeros((0, C, 8, 8)), np.zeros((0, F, 9 - k, 9 - k)), random((F, C, k, k), 1)
    assert correlate(x, weights).shape == dz.shape
    assert input_gradient(dz, weights, (C, 8, 8)).shape == x.shape
    dweights, dbias = weight_gradient(x, dz, k)
    np.testing.assert_array_equal(dweights, np.zeros(weights.shape))
    np.testing.assert_array_equal(dbias, np.zeros((F, 1)))


def test_windows_overlap() -> None:
    """They are views of arrays with up to k copies of each pixel; full copies would have k * k."""
    images, rows = np.zeros((16, 32, 32, 64), np.float32), slice(0, 28)
    for windows in (
        im2col(images, 5, 1, 0, rows),
        row_windows(images, 5, 1, 0, rows, None, at_once=True),
        row_windows(images, 5, 1, 0, rows, None, at_once=False),
    ):
        memory = windows
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        assert 3 * memory.nbytes < windows.nbytes


@settings(max_examples=200)
@given(
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(0, 5)] * 2),
    st.integers(1, 4),
    st.integers(1, 5),
    st.permutations(range(4)),
    st.sampled_from([2, 1000]),
    st.booleans(),
)
def test_pooling_agrees_with_the_loops(
    batch: Shape, more: Shape, size: int, stride: int, order: list[int], values: int, has_nan: bool
) -> None:
    """With remainders, overlapping windows or gaps, ties, and any memory order."""
    shape = *batch, size + more[0], size + more[1]
    x = np.random.default_rng(1).integers(0, values, shape).astype(np.float64)
    x = np.array(x.transpose(order), order="C").transpose(np.argsort(order))
    if has_nan:
        x[0, 0, 0, 0] = np.nan
    z = max_pool(x, size, stride)
    np.testing.assert_array_equal(z, reference.max_pool_forward(x, size, stride))
    if not has_nan:
        dz, before = random(z.shape, 2), x.copy()
        dx = max_pool_gradient(dz, x, z, size, stride)
        close(dx, reference.max_pool_backward(x, size, stride, dz))
        np.testing.assert_array_equal(x, before)


SIZES = st.integers(0, 40) | st.integers(1, 4)


@settings(max_examples=200)
@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.integers(1, 200),
    st.sampled_from([1, 64]),
    st.integers(1, 3),
    st.tuples(*[st.sampled_from("CF")] * 2),
)
def test_products_are_products(
    shape: Shape, small: int, piece: int, count: int, orders: tuple[str, str]
) -> None:
    rows, inner, columns = shape
    a, b = (
        np.array(random(sides, 0), order=order)  # type: ignore[call-overload]
        for sides, order in zip(((rows, inner), (inner, columns)), orders, strict=True)
    )
    updated, gradient = a.copy(order="K"), random((rows, inner), 1)
    with (
        mock.patch.multiple(products, SMALL_PRODUCT_COST=small, UPDATE_SIZE=small, MIN_PIECE=piece),
        mock.patch.object(threads, "WAKING_COST", 1),
        use_threads(count),
    ):
        close(matmul(a, b), a @ b)
        sgd_update(updated, gradient, 0.25)
    close(updated, a - 0.25 * gradient)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60))
def test_slices_cover_the_range_in_order(start: int, length: int, count: int) -> None:
    parts = list(slices(slice(start, start + length), count))
    covered = [i for part in parts for i in range(part.start, part.stop)]
    assert covered == list(range(start, start + length))
    assert all(part.stop - part.start <= count for part in parts)


@given(st.integers(0, 300), st.integers(0, 50), st.integers(0, 1000))
def test_pieces_are_small_and_cover_the_columns_in_order(
    columns: int, of_one: int, small: int
) -> None:
    matrix = np.arange(2 * columns).reshape(2, columns)
    with mock.patch.object(products, "SMALL_PRODUCT_COST", small):
        pieces = [piece for stack in cut(matrix, of_one, 5) for piece in stack]
    np.testing.assert_array_equal(np.concatenate([matrix[:, :0], *pieces], axis=1), matrix)
    if of_one * 5 <= small:  # otherwise nothing is cut
        assert all(piece.shape[1] * of_one <= small for piece in pieces)
