"""The layer through which a batch enters the network."""

from handcnn.layers.layer import Layer
from handcnn.types import Array


class InputLayer(Layer):
    """Pass a batch of any shape on unchanged."""

    def forward(self, x: Array) -> Array:
        """Return `x` itself."""
        return x

    def backward(self, dout: Array) -> Array:
        """Return `dout` itself."""
        return dout
