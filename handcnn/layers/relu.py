"""The ReLU as a separate layer. docs/backprop.md, section 7, derives it."""

import numpy as np

from handcnn.layers.layer import Layer
from handcnn.types import Array


class ReLU(Layer):
    """max(0, x) for every entry, in any shape."""

    def forward(self, x: Array) -> Array:
        """Return max(0, x) in the shape of `x`."""
        self.x = self.check_input(x)
        return np.maximum(0, self.x)

    def backward(self, dout: Array) -> Array:
        """Return dx = dout * (x > 0), in the shape of x."""
        return self.check_dout(dout) * (self.x > 0)
