"""A convolution and the dense layer behind it, computed as the one linear map that they are.

No activation stands between the two, so together they are z = x M + m, exactly. With p = (i,j) a
position of the convolution's output, q = (c,y,x) a pixel of the padded image, and d a unit:

    M[q,d]      = sum over f and over p, u, v with q = (c, i*s+u, j*s+v) of K[f,c,u,v] * W[f,p,d]
    m[d]        = bias[d] + sum over f,p of b[f] * W[f,p,d]

    dM          = x^T dz,       dm = sum over n of dz
    dW[f,p,d]   = sum over c,u,v of K[f,c,u,v] * dM[(c,i*s+u,j*s+v), d]  +  b[f] * dm[d]
    dK[f,c,u,v] = sum over p,d of W[f,p,d] * dM[(c,i*s+u,j*s+v), d]
    db[f]       = sum over p,d of W[f,p,d] * dm[d]

The batch meets only M (784 x 64 in the documented network). W (25088 x 64) meets only the kernels,
in three products with A = [K|b], whose columns are the taps, the bias being one that is always on.
They cost the same whatever the batch. `docs/folding.md` derives the formulas.
"""

import copy
from math import prod

import numpy as np

from handcnn.kernels.im2col import (
    correlate,
    kernels_and_bias,
    padded,
    spread,
    tap_gradient,
    tap_matrix,
    windows_by_row,
)
from handcnn.kernels.products import a_few_at_a_time, rows_times
from handcnn.kernels.threads import share
from handcnn.layers import Conv2D, DenseLayer, HiddenLayer, Layer, OutputLayer
from handcnn.types import Array, Shape

# So many output rows of W are updated at a time that the step is still in the cache when it is
# subtracted.
ROWS = 4


def fold(conv: Conv2D, W: Array, image_shape: Shape) -> tuple[Array, Array]:
    """Return M (C*H*W, M) and m (M,), still without the dense bias, for W (F*OH*OW, M)."""
    A = tap_matrix(conv.weights, conv.bias)
    by_position = W.reshape(*conv.output_shape(image_shape), -1)  # (F, OH, OW, M), a view
    M, m = spread(A, by_position, image_shape, conv.kernel_size, conv.stride, conv.padding)
    return M.reshape(-1, W.shape[1]), m


def unfold(
    conv: Conv2D, W: Array, image_shape: Shape, dM: Array, dm: Array
) -> tuple["FoldedGradient", Array, Array]:
    """Return dW in its factors, dK (F, C, k, k) and db (F, 1)."""
    images = padded(dM.reshape(*image_shape, -1), conv.padding)  # one for each unit
    windows = windows_by_row(images, conv.kernel_size, conv.stride, constant=dm)
    dA = tap_gradient(W.reshape(*conv.output_shape(image_shape)[:2], -1), windows)
    dW = FoldedGradient(tap_matrix(conv.weights, conv.bias), windows, W.shape)
    return dW, *kernels_and_bias(dA, conv.weights.shape)


class FoldedGradient:
    """dW (F*OH*OW, M) in its factors, A (F, k*R) and `windows` (blocks, OH, k*R, columns).

    The update subtracts their product a few rows at a time and never holds it as a whole.
    """

    def __init__(self, A: Array, windows: Array, shape: Shape) -> None:
        self.A, self.windows, self.shape = A, windows, shape

    def compute(self) -> Array:
        """Return dW."""
        return correlate(self.A, self.windows).reshape(self.shape)

    def descend(self, W: Array, learning_rate: float) -> None:
        """Subtract learning rate times dW from W, in place."""
        if not W.flags.c_contiguous:
            W -= learning_rate * self.compute()
            return
        A = self.A * self.A.dtype.type(learning_rate)
        oh = self.windows.shape[1]
        by_row = W.reshape(len(A), oh, -1)  # (F, OH, OW*M), a view

        def work(rows: slice) -> None:
            for few in a_few_at_a_time(rows, ROWS):
                by_row[:, few] -= correlate(A, self.windows[:, few])

        share(work, oh, len(A) * self.windows.size)


class FoldedPair(Layer):
    """The two layers with the methods of one, for `Network`.

    Nothing changes for who looks at the layers: their parameters are read in every forward pass,
    their gradients are left on them, and their own `backward` works, since it makes up for the
    forward pass that folding left out. Where they were run by themselves in between, the way back
    is theirs too.

    Args:
        conv: the convolution.
        dense: the dense layer behind it.
        frozen: fold in the first forward pass only, for prediction.
    """

    def __init__(self, conv: Conv2D, dense: DenseLayer, frozen: bool = False) -> None:
        self.conv, self.dense, self.frozen = conv, dense, frozen
        self._M: Array | None = None

    def forward(self, x: Array) -> Array:
        """Return what `dense.forward(conv.forward(x))` returns, to rounding."""
        conv, dense = self.conv, self.dense
        dense.prepare(conv.prepare(np.shape(x)))
        self._x = np.asarray(x, conv.weights.dtype)
        if not self.frozen:  # there is a way back, on which x and the kernels are as they are now
            self._x, self._then = self._x.copy(), copy.copy(conv)
            self._then.weights, self._then.bias = conv.weights.copy(), conv.bias.copy()
            conv.left_out, dense.left_out = self._run_conv, self._run_dense
        if self._M is None or not self.frozen:
            self._M, m = fold(conv, dense.weights, self._x.shape[1:])
            self._m = dense.bias + m
        return dense.activate(rows_times(self._flat(), self._M) + self._m)

    def backward(self, dout: Array) -> Array:
        """Leave the gradients on both layers and return `dx` (N, C, H, W)."""
        if not self._was_last():
            return self.conv.backward(self.dense.backward(dout))
        dz = self.parameter_gradients(dout)
        M, _ = fold(self.conv, self.dense.weights, self._x.shape[1:])  # as they are now
        return (dz @ M.T).reshape(self._x.shape)

    def parameter_gradients(self, dout: Array) -> Array:
        """Leave `dweights` and `dbias` on both layers and return dz (N, M)."""
        conv, dense = self.conv, self.dense
        if not self._was_last():
            return conv.parameter_gradients(dense.backward(dout))
        dz = dense.activation_gradient(dense.check_gradient(dout))
        dM, dm = rows_times(self._flat().T, dz), dz.sum(axis=0)
        gradients = unfold(self._then, dense.weights, self._x.shape[1:], dM, dm)
        dense.dweights, conv.dweights, conv.dbias = gradients
        dense.dbias = dm[None]
        return dz

    def _flat(self) -> Array:
        return self._x.reshape(len(self._x), -1)  # (N, C*H*W)

    def _was_last(self) -> bool:
        """Return whether the last forward pass of both layers was the one that is folded here."""
        return self.conv.left_out == self._run_conv and self.dense.left_out == self._run_dense

    def _run_conv(self, conv: Conv2D) -> None:
        """Make up for the forward pass of the convolution, or of a copy of it."""
        conv.forward(self._x)

    def _run_dense(self, dense: DenseLayer) -> None:
        """Give the dense layer the input it would have kept; what it activated, it knows."""
        dense.keep_input(self._then.forward(self._x))


def is_worth_folding(conv: Layer, dense: Layer, images: int) -> bool:
    """Return whether two neighbouring layers can be folded, and gain by it.

    Only the layers themselves will do, since a subclass may compute something else, and their
    weights must be C-contiguous, since W is looked at in other shapes. Folded, W meets all the
    taps in every step; unfolded, all the images: the smaller number is cheaper.
    """
    if type(conv) is not Conv2D or type(dense) not in (HiddenLayer, OutputLayer):
        return False
    W, K = dense.parameters()["weights"], conv.parameters()["weights"]
    taps = prod(K.shape[1:]) + 1
    return images > taps and W.dtype == K.dtype and W.flags.c_contiguous
