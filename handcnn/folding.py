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

from math import prod
from typing import cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from handcnn.layers import Array, Conv2D, DenseLayer, HiddenLayer, Layer, OutputLayer, Shape

# So many output rows of W are updated at a time that the step is still in the cache when it is
# subtracted.
ROWS = 2


class Fold:
    """The algebra for one size of image, in buffers that are kept from step to step.

    The taps of kernel row u are R = k*C + 1 rows: (v, c), and the bias, which belongs to u = 0.
    `taps` (Hp, R, OW, M) is the padded M, or dM, as the horizontal taps see it, row by row. The k
    kernel rows that meet output row i are then neighbours in memory, from row i*s on, and
    `windows` (OH, k*R, OW*M) shows all of them without a copy.
    """

    def __init__(self, conv: Conv2D, image_shape: Shape, units: int) -> None:
        k, s, p = conv.kernel_size, conv.stride, conv.padding
        c, h, w = image_shape
        _, oh, ow = conv.output_shape(image_shape)
        r, dtype = k * c + 1, conv.weights.dtype
        self.conv = conv
        self.image_shape = image_shape
        self.A = np.zeros((conv.out_channels, k, r), dtype)  # (F, k, R)
        self.products = np.empty((oh, k, r, ow, units), dtype)
        self.taps = np.empty((h + 2 * p, r, ow, units), dtype)
        self.padded = np.empty((h + 2 * p, c, w + 2 * p, units), dtype)
        self.image = self.padded[p : p + h, :, p : p + w].swapaxes(0, 1)  # (C, H, W, M), a view
        rows = sliding_window_view(self.taps.reshape(-1, ow * units), k * r, axis=0)
        self.windows = rows[:: s * r].swapaxes(1, 2)  # (OH, k*R, OW*M), a view

    def fold(self, W: Array) -> tuple[Array, Array]:
        """Return M (C*H*W, M) and m (M,), still without the dense bias, for W (F*OH*OW, M)."""
        (f, k, r), (oh, *_, units) = self.A.shape, self.products.shape
        c, s = self.conv.in_channels, self.conv.stride
        self.A[:, :, :-1] = self.conv.weights.transpose(0, 2, 3, 1).reshape(f, k, k * c)
        self.A[:, 0, -1:] = self.conv.bias
        A = self.A.reshape(f, k * r)
        np.matmul(A.T, self._by_row(W), out=self.products.reshape(oh, k * r, -1))
        self.taps.fill(0)
        for u in range(k):
            self.taps[u : u + s * oh : s] += self.products[:, u]
        self.padded.fill(0)
        for v in range(k):
            self.padded[:, :, self._columns(v)] += self.taps[:, v * c : v * c + c]
        m = self.taps[:, -1].sum(axis=0).sum(axis=0)
        return np.array(self.image, order="C").reshape(-1, units), m

    def gradients(self, W: Array, dM: Array, dm: Array) -> tuple["FoldedGradient", Array, Array]:
        """Return dW, in factors that hold until the next call, dK (F, C, k, k) and db (F, 1)."""
        (f, k, _), c = self.A.shape, self.conv.in_channels
        self.padded.fill(0)
        self.image[...] = dM.reshape(self.image.shape)
        for v in range(k):
            self.taps[:, v * c : v * c + c] = self.padded[:, :, self._columns(v)]
        self.taps[:, -1] = dm
        dA = (self._by_row(W) @ self.windows.swapaxes(1, 2)).sum(axis=0).reshape(self.A.shape)
        dK = dA[:, :, :-1].reshape(f, k, k, c).transpose(0, 3, 1, 2)
        dW = FoldedGradient(self.A.reshape(f, -1).copy(), self.windows, W.shape)
        return dW, np.ascontiguousarray(dK), dA[:, 0, -1:].copy()

    def _by_row(self, W: Array) -> Array:
        """Return W with a matrix for each output row: (OH, F, OW*M), a view."""
        return W.reshape(len(self.A), len(self.products), -1).swapaxes(0, 1)

    def _columns(self, v: int) -> slice:
        """Return the columns of the padded image that tap v of a kernel row meets."""
        return slice(v, v + self.conv.stride * self.products.shape[3], self.conv.stride)


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
    forward pass that folding left out.

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
        conv.left_out = dense.left_out = self._run_layers
        self._x = np.asarray(x, conv.weights.dtype)
        if self._fold is None or self._fold.image_shape != self._x.shape[1:]:
            self._fold, self._M = Fold(conv, self._x.shape[1:], dense.output_size), None
        if self._M is None or not self.frozen:
            self._M, m = self._fold.fold(dense.weights)
            self._m = dense.bias + m
        return dense.activate(self._flat() @ self._M + self._m)

    def backward(self, dout: Array) -> Array:
        """Leave the gradients on both layers and return `dx` (N, C, H, W)."""
        return self.input_gradient(self.parameter_gradients(dout))

    def parameter_gradients(self, dout: Array) -> Array:
        """Leave `dweights` and `dbias` on both layers and return dz (N, M)."""
        conv, dense = self.conv, self.dense
        dz = dense.activation_gradient(dense.check_gradient(dout))
        dM, dm = self._flat().T @ dz, dz.sum(axis=0)
        gradients = cast(Fold, self._fold).gradients(dense.weights, dM, dm)
        dense.dweights, conv.dweights, conv.dbias = gradients
        dense.dbias = dm[None]
        return dz

    def input_gradient(self, dz: Array) -> Array:
        """Return dx = dz M^T (N, C, H, W)."""
        return (dz @ cast(Array, self._M).T).reshape(self._x.shape)

    def _flat(self) -> Array:
        return self._x.reshape(len(self._x), -1)  # (N, C*H*W)

    def _run_layers(self) -> None:
        self.dense.forward(self.conv.forward(self._x))


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
