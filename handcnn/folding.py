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
from typing import cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from handcnn.layers import Array, Conv2D, DenseLayer, HiddenLayer, Layer, OutputLayer, Shape

# So many output rows of W are updated at a time that the step is still in the cache when it is
# subtracted.
ROWS = 2


class Fold:
    """The algebra for one convolution and one size of image, in buffers kept from step to step.

    The taps of kernel row u are R = k*C + 1 rows: (v, c), and the bias, which belongs to u = 0.
    `taps` (Hp, R, OW, M) is the padded M, or dM, as the horizontal taps see it, row by row. The k
    kernel rows that meet output row i are then neighbours in memory, from row i*s on, and
    `_windows` shows all of them without a copy.
    """

    def __init__(self, conv: Conv2D, image_shape: Shape, units: int) -> None:
        k, p, dtype = conv.kernel_size, conv.padding, conv.weights.dtype
        c, h, w = image_shape
        _, oh, ow = conv.output_shape(image_shape)
        r = k * c + 1
        self.image_shape, self.dtype, self.stride, self.padding = image_shape, dtype, conv.stride, p
        self.products = np.empty((oh, k, r, ow, units), dtype)
        self.taps = np.empty((h + 2 * p, r, ow, units), dtype)
        self.padded = np.empty((h + 2 * p, c, w + 2 * p, units), dtype)

    def fold(self, conv: Conv2D, W: Array) -> tuple[Array, Array]:
        """Return M (C*H*W, M) and m (M,), still without the dense bias, for W (F*OH*OW, M)."""
        (oh, k, r, _, units), c, s = self.products.shape, conv.in_channels, self.stride
        A = self._with_bias(conv)
        np.matmul(A.T, self._by_row(W), out=self.products.reshape(oh, k * r, -1))
        self.taps.fill(0)
        for u in range(k):
            self.taps[u : u + s * oh : s] += self.products[:, u]
        self.padded.fill(0)
        for v in range(k):
            self.padded[:, :, self._columns(v)] += self.taps[:, v * c : v * c + c]
        m = self.taps[:, -1].sum(axis=0).sum(axis=0)
        return np.array(self._image(), order="C").reshape(-1, units), m

    def gradients(
        self, conv: Conv2D, W: Array, dM: Array, dm: Array
    ) -> tuple["FoldedGradient", Array, Array]:
        """Return dW in its factors, dK (F, C, k, k) and db (F, 1)."""
        f, c, k, _ = conv.weights.shape
        self.padded.fill(0)
        self._image()[...] = dM.reshape(self._image().shape)
        taps = np.empty_like(self.taps)  # not the buffer: dW is read when its reader likes
        for v in range(k):
            taps[:, v * c : v * c + c] = self.padded[:, :, self._columns(v)]
        taps[:, -1] = dm
        windows = self._windows(taps)
        dA = (self._by_row(W) @ windows.swapaxes(1, 2)).sum(axis=0).reshape(f, k, -1)
        dK = dA[:, :, :-1].reshape(f, k, k, c).transpose(0, 3, 1, 2)
        dW = FoldedGradient(self._with_bias(conv), windows, W.shape)
        return dW, np.ascontiguousarray(dK), dA[:, 0, -1:].copy()

    def _with_bias(self, conv: Conv2D) -> Array:
        """Return A (F, k*R): the kernels, their taps in the order of `taps`, and the bias."""
        f, c, k, _ = conv.weights.shape
        A = np.zeros((f, k, k * c + 1), self.dtype)
        A[:, :, :-1] = conv.weights.transpose(0, 2, 3, 1).reshape(f, k, k * c)
        A[:, 0, -1:] = conv.bias
        return A.reshape(f, -1)

    # Views are made when they are needed, since a deep copy of one would show the wrong array.

    def _by_row(self, W: Array) -> Array:
        """Return W with a matrix for each output row: (OH, F, OW*M), a view."""
        oh, _, _, ow, _ = self.products.shape
        return W.reshape(len(W) // (oh * ow), oh, -1).swapaxes(0, 1)

    def _image(self) -> Array:
        """Return what the border of `padded` surrounds: (C, H, W, M), a view."""
        (_, h, w), p = self.image_shape, self.padding
        return self.padded[p : p + h, :, p : p + w].swapaxes(0, 1)

    def _windows(self, taps: Array) -> Array:
        """Return for each output row the k rows of taps under it: (OH, k*R, OW*M), a view."""
        _, k, r, ow, units = self.products.shape
        rows = sliding_window_view(taps.reshape(-1, ow * units), k * r, axis=0)
        return rows[:: self.stride * r].swapaxes(1, 2)

    def _columns(self, v: int) -> slice:
        """Return the columns of the padded image that tap v of a kernel row meets."""
        return slice(v, v + self.stride * self.products.shape[3], self.stride)


class FoldedGradient:
    """dW (F*OH*OW, M) in its factors, A (F, k*R) and `windows` (OH, k*R, OW*M).

    The update subtracts their product a few rows at a time and never holds it as a whole.
    """

    def __init__(self, A: Array, windows: Array, shape: Shape) -> None:
        self.A, self.windows, self.shape = A, windows, shape

    def compute(self) -> Array:
        """Return dW."""
        dW = np.empty((len(self.A), len(self.windows), self.windows.shape[2]), self.A.dtype)
        np.matmul(self.A, self.windows, out=dW.swapaxes(0, 1))
        return dW.reshape(self.shape)

    def descend(self, W: Array, learning_rate: float) -> None:
        """Subtract learning rate times dW from W, in place."""
        if not W.flags.c_contiguous:
            W -= learning_rate * self.compute()
            return
        A = self.A * self.A.dtype.type(learning_rate)
        by_row = W.reshape(len(A), len(self.windows), -1)  # (F, OH, OW*M), a view
        for start in range(0, len(self.windows), ROWS):
            windows = self.windows[start : start + ROWS]
            step = np.empty((len(A), len(windows), windows.shape[2]), A.dtype)
            np.matmul(A, windows, out=step.swapaxes(0, 1))
            by_row[:, start : start + ROWS] -= step


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
        self._fold: Fold | None = None
        self._M: Array | None = None

    def forward(self, x: Array) -> Array:
        """Return what `dense.forward(conv.forward(x))` returns, to rounding."""
        conv, dense = self.conv, self.dense
        dense.prepare(conv.prepare(np.shape(x)))
        self._x = np.array(x, conv.weights.dtype)  # a copy, as the convolution would make
        self._then = copy.copy(conv)  # dW needs the convolution as it is now, whoever edits it
        self._then.weights, self._then.bias = conv.weights.copy(), conv.bias.copy()
        if not self.frozen:  # there is a way back
            conv.left_out, dense.left_out = self._run_conv, self._run_dense
        if self._fold is None or not self._fits(self._fold):
            self._fold, self._M = Fold(conv, self._x.shape[1:], dense.output_size), None
        if self._M is None or not self.frozen:
            self._M, m = self._fold.fold(conv, dense.weights)
            self._m = dense.bias + m
        return dense.activate(self._flat() @ self._M + self._m)

    def backward(self, dout: Array) -> Array:
        """Leave the gradients on both layers and return `dx` (N, C, H, W)."""
        if not self._was_last():
            return self.conv.backward(self.dense.backward(dout))
        dz = self.parameter_gradients(dout)
        M, _ = cast(Fold, self._fold).fold(self.conv, self.dense.weights)  # as they are now
        return (dz @ M.T).reshape(self._x.shape)

    def parameter_gradients(self, dout: Array) -> Array:
        """Leave `dweights` and `dbias` on both layers and return dz (N, M)."""
        conv, dense = self.conv, self.dense
        if not self._was_last():
            return conv.parameter_gradients(dense.backward(dout))
        dz = dense.activation_gradient(dense.check_gradient(dout))
        dM, dm = self._flat().T @ dz, dz.sum(axis=0)
        gradients = cast(Fold, self._fold).gradients(self._then, dense.weights, dM, dm)
        dense.dweights, conv.dweights, conv.dbias = gradients
        dense.dbias = dm[None]
        return dz

    def _fits(self, fold: Fold) -> bool:
        return fold.image_shape == self._x.shape[1:] and fold.dtype == self._x.dtype

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
