"""A convolution and the dense layer behind it, computed as one linear map.

No activation stands between the two, so together they are exactly z = x G + g. `kernels` and `bias`
are those of the convolution, `weights` those of the dense layer, numbered by kernel f, position i,j
and unit m:

    G[(c,h,w),m]      = sum over f,i,j,u,v with i*s+u = h and j*s+v = w of
                            kernels[f,c,u,v] * weights[f,i,j,m]
    g[m]              = sum over f,i,j of bias[f] * weights[f,i,j,m]

    dG                = x^T dz
    dg                = sum over n of dz
    dweights[f,i,j,m] = bias[f] * dg[m]
                            + sum over c,u,v of kernels[f,c,u,v] * dG[(c,i*s+u,j*s+v),m]
    dkernels[f,c,u,v] = sum over i,j,m of weights[f,i,j,m] * dG[(c,i*s+u,j*s+v),m]
    dbias[f]          = sum over i,j,m of weights[f,i,j,m] * dg[m]

(c,h,w) is a pixel of the padded image. The batch is multiplied only by G (784 x 64 in the
documented network). The dense weights (25088 x 64) appear only in three products with the kernels
or dG, whose cost does not depend on the batch size. They are the three products of a convolution,
over units instead of images: below, the M units stand where im2col.py has N images. `docs/fused.md`
derives all of this.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from handcnn.kernels.im2col import col2im, kernel_matrix, row_windows
from handcnn.kernels.products import added, slices, sum_of_products
from handcnn.kernels.threads import share
from handcnn.types import Array, Shape

UPDATE_ROWS = 4  # rows of positions per update, few enough to stay in cache


class Geometry(NamedTuple):
    """A convolution's image shape (C, H, W), output shape (F, OH, OW), stride and padding."""

    image_shape: Shape
    output_shape: Shape
    stride: int
    padding: int


def is_cheaper(images: int, kernels: Array) -> bool:
    """Return whether fusing takes fewer multiplications for a batch of this size.

    With fusing, each dense weight is multiplied by the C*k*k entries of a kernel and the bias,
    otherwise once for each image.
    """
    return images > prod(kernels.shape[1:]) + 1


def fuse(kernels: Array, bias: Array, weights: Array, geometry: Geometry) -> tuple[Array, Array]:
    """Return G (C*H*W, M) and g (M,).

    Args:
        kernels: (F, C, k, k).
        bias: (F, 1).
        weights: (F*OH*OW, M).
        geometry: of the convolution.
    """
    A = kernel_matrix(kernels.swapaxes(2, 3), bias)  # by kernel row, then kernel column
    (C, H, W), (F, OH, OW), s, p = geometry
    k, M = kernels.shape[-1], weights.shape[1]
    by_row = weights.reshape(F, OH, OW * M).swapaxes(0, 1)  # (OH, F, OW*M)
    products = np.empty((OH, k, k * C + 1, OW, M), A.dtype)

    def multiply(rows: slice) -> None:
        np.matmul(A.T, by_row[rows], out=products[rows].reshape(-1, A.shape[1], OW * M))

    share(multiply, OH, A.shape[1] * weights.size)
    rows = col2im([products[:, u, :-1] for u in range(k)], H, s, p)  # (H, k*C, OW, M)
    columns = [rows[:, v * C : v * C + C].swapaxes(0, 2) for v in range(k)]  # (OW, C, H, M)
    G = col2im(columns, W, s, p).transpose(1, 2, 0, 3)  # (C, H, W, M)
    return G.reshape(-1, M), products[:, 0, -1].sum(axis=0).sum(axis=0)


def update_fused(
    kernels: Array,
    bias: Array,
    weights: Array,
    dG: Array,
    dg: Array,
    geometry: Geometry,
    learning_rates: tuple[float, float],
) -> None:
    """Do the SGD update of kernels, bias and dense weights in place, given dG and dg.

    dweights is large, so it is computed and subtracted in blocks.

    Args:
        kernels: (F, C, k, k).
        bias: (F, 1).
        weights: (F*OH*OW, M), C-contiguous.
        dG: (C*H*W, M).
        dg: (M,).
        geometry: of the convolution.
        learning_rates: of the convolution and of the dense layer.
    """
    (F, OH, OW), k, M = geometry.output_shape, kernels.shape[-1], len(dg)
    units_as_images = dG.reshape(*geometry.image_shape, M)  # (C, H, W, M)
    s, p = geometry.stride, geometry.padding
    windows = row_windows(units_as_images, k, s, p, slice(0, OH), dg, at_once=True)
    by_row = weights.reshape(F, OH, OW * M)  # a view
    A = kernel_matrix(kernels.swapaxes(2, 3), bias)  # by kernel row, then kernel column
    conv_rate, dense_rate = learning_rates
    step = A * A.dtype.type(dense_rate)

    def update(rows: slice) -> Array:
        dA = sum_of_products(windows[rows], by_row[:, rows].transpose(1, 2, 0))
        for few in slices(rows, UPDATE_ROWS):
            by_row[:, few] -= np.matmul(step, windows[few]).swapaxes(0, 1)
        return dA

    dA = added(share(update, OH, 2 * A.shape[1] * weights.size)).reshape(k, -1, F)
    dkernels = dA[:, :-1].reshape(k, k, -1, F).transpose(3, 2, 0, 1)
    kernels -= conv_rate * dkernels
    bias -= conv_rate * dA[0, -1:].T
