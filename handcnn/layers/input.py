"""The place where a batch enters the network."""

from handcnn.layers.layer import Layer
from handcnn.types import Array


class InputLayer(Layer):
    """Pass the batch on as it is, in any shape."""

    def forward(self, x: Array) -> Array:
        """Return `x` itself."""
        return x

    def backward(self, dout: Array) -> Array:
        """Return `dout` itself."""
        return dout
