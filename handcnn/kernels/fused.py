"""A convolution and the dense layer behind it, computed as one linear map.

No activation stands between the two, so together they are exactly z = x M + m. K and b are kernels
and bias of the convolution, W the dense weights, p = (i,j) a position of the convolution's output,
q = (c,y,x) a pixel of the padded image, and d a unit:

    M[q,d]      = sum over f and over p, u, v with q = (c, i*s+u, j*s+v) of K[f,c,u,v] * W[f,p,d]
    m[d]        = sum over f,p of b[f] * W[f,p,d]

    dM          = x^T dz,       dm = sum over n of dz
    dW[f,p,d]   = sum over c,u,v of K[f,c,u,v] * dM[(c,i*s+u,j*s+v), d]  +  b[f] * dm[d]
    dK[f,c,u,v] = sum over p,d of W[f,p,d] * dM[(c,i*s+u,j*s+v), d]
    db[f]       = sum over p,d of W[f,p,d] * dm[d]

The batch is multiplied only by M (784 x 64 in the documented network). W (25088 x 64) appears only
in three products with the kernels or dM, whose cost does not depend on the batch size. They are the
three products of a convolution, over units instead of images. `docs/fused.md` derives all of this.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from handcnn.kernels.convolution import sum_over_columns
from handcnn.kernels.im2col import col2im, im2col, kernel_matrix, kernels_of
from handcnn.kernels.products import slices, total
from handcnn.kernels.threads import share
from handcnn.types import Array, Shape

ROWS = 4  # rows of W per update, small enough to stay in cache


class Geometry(NamedTuple):
    """A convolution's image shape (C, H, W), output shape (F, OH, OW), stride and padding."""

    image_shape: Shape
    output_shape: Shape
    stride: int
    padding: int


def is_cheaper(images: int, kernels: Array) -> bool:
    """Return whether fusing takes fewer multiplications for a batch of this size.

    With fusing, each number of W is multiplied by the C*k*k entries of a kernel and the bias,
    otherwise once for each image.
    """
    return images > prod(kernels.shape[1:]) + 1


def fuse(kernels: Array, bias: Array, W: Array, geometry: Geometry) -> tuple[Array, Array]:
    """Return M (C*H*W, M) and m (M,) for kernels (F, C, k, k), bias (F, 1) and W (F*OH*OW, M)."""
    A = with_bias(kernels, bias)
    (c, h, w), (f, oh, ow), s, p = geometry
    k, units = kernels.shape[-1], W.shape[1]
    by_row = W.reshape(f, oh, ow * units).swapaxes(0, 1)  # (OH, F, OW*M)
    products = np.empty((oh, k, k * c + 1, ow, units), A.dtype)

    def work(rows: slice) -> None:
        np.matmul(A.T, by_row[rows], out=products[rows].reshape(-1, A.shape[1], ow * units))

    share(work, oh, A.shape[1] * W.size)
    rows = col2im([products[:, u, :-1] for u in range(k)], h, s, p)  # (H, k*C, OW, M)
    columns = [rows[:, v * c : v * c + c].swapaxes(0, 2) for v in range(k)]  # (OW, C, H, M)
    M = col2im(columns, w, s, p).transpose(1, 2, 0, 3)  # (C, H, W, M)
    return M.reshape(-1, units), products[:, 0, -1].sum(axis=0).sum(axis=0)


def with_bias(kernels: Array, bias: Array) -> Array:
    """Return kernels (F, C, k, k) and bias (F, 1) as one matrix (F, k*R), with R = k*C + 1.

    The bias is one more entry of the kernel. Each kernel row ends with an entry for it, which is
    zero in all rows but the first.
    """
    f, c, k, _ = kernels.shape
    A = np.zeros((f, k, k * c + 1), kernels.dtype)
    A[:, :, :-1] = kernel_matrix(kernels).reshape(f, k, k * c)
    A[:, 0, -1:] = bias
    return A.reshape(f, -1)


def update_fused(
    kernels: Array,
    bias: Array,
    W: Array,
    dM: Array,
    dm: Array,
    geometry: Geometry,
    learning_rates: tuple[float, float],
) -> None:
    """Do the SGD update of kernels, bias and W in place, given the gradients of M and m.

    dW is as large as W, so it is computed and subtracted in blocks.

    Args:
        kernels: (F, C, k, k).
        bias: (F, 1).
        W: (F*OH*OW, M), C-contiguous.
        dM: (C*H*W, M).
        dm: (M,).
        geometry: of the convolution.
        learning_rates: of the convolution and of the dense layer.
    """
    (f, oh, _), k = geometry.output_shape, kernels.shape[-1]
    conv_rate, dense_rate = learning_rates
    units_as_images = dM.reshape(*geometry.image_shape, -1)  # (C, H, W, M)
    windows = im2col(units_as_images, k, geometry.stride, geometry.padding, constant=dm)
    W_as_dz = W.reshape(*geometry.output_shape, -1)  # (F, OH, OW, M), a view
    by_row = W.reshape(f, oh, -1)  # (F, OH, OW*M), a view
    A = with_bias(kernels, bias)
    step = A * A.dtype.type(dense_rate)

    def gradient(rows: slice) -> Array:
        return sum_over_columns(windows[rows], W_as_dz[:, rows])

    def update(rows: slice) -> None:
        for few in slices(rows, ROWS):
            by_row[:, few] -= np.matmul(step, windows[few]).swapaxes(0, 1)

    dA = total(share(gradient, oh, A.shape[1] * W.size)).T
    share(update, oh, A.shape[1] * W.size)
    dA = dA.reshape(f, k, -1)
    kernels -= conv_rate * kernels_of(dA[:, :, :-1], kernels.shape)
    bias -= conv_rate * dA[:, 0, -1:]
