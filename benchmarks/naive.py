"""The convolution as plain loops: its cost without any optimisation.

The loops run over images, filters and output positions, like the formula; NumPy sums over each
window.
"""

import numpy as np

from handcnn import Conv2D
from handcnn.types import Array


class LoopConv2D(Conv2D):
    """A `Conv2D` in loops, for the first layer of a network: it computes no dx."""

    def forward(self, x: Array) -> Array:
        """Return z[n,f,i,j] = bias[f] + sum over c,u,v of weights[f,c,u,v] * window[c,u,v]."""
        p = self.padding
        self.xpad = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        z = np.zeros((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        for n, f, i, j in np.ndindex(z.shape):
            z[n, f, i, j] = (self.weights[f] * self.window(n, i, j)).sum() + self.bias[f, 0]
        return z

    def backward(self, dout: Array) -> Array:
        """Set `dweights`, x correlated with `dout`, and `dbias`, the sum of `dout` over n,i,j."""
        self.dweights, self.dbias = np.zeros_like(self.weights), np.zeros_like(self.bias)
        for n, f, i, j in np.ndindex(dout.shape):
            self.dweights[f] += dout[n, f, i, j] * self.window(n, i, j)
            self.dbias[f] += dout[n, f, i, j]
        return np.empty(0)  # the dx of a first layer is not needed

    def window(self, n: int, i: int, j: int) -> Array:
        """Return the window of z[n,:,i,j]: (C, k, k)."""
        k, h, w = self.kernel_size, i * self.stride, j * self.stride
        return self.xpad[n, :, h : h + k, w : w + k]
