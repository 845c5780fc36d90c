"""The layers: forward and backward, in the order of docs/backprop.md.

To add a layer, add a file here and its name to LAYERS below.
"""

from handcnn.layers.conv2d import Conv2D
from handcnn.layers.dense import DenseLayer, HiddenLayer, OutputLayer
from handcnn.layers.input import InputLayer
from handcnn.layers.layer import Layer, ParameterLayer
from handcnn.layers.maxpool2d import MaxPool2D
from handcnn.layers.relu import ReLU

# The layers that a saved network may contain, by name.
LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (InputLayer, Conv2D, ReLU, MaxPool2D, HiddenLayer, OutputLayer)
}


def is_registered(*layers: Layer) -> bool:
    """Return whether the classes of all these are in LAYERS; a subclass may compute otherwise."""
    return all(type(layer) in LAYERS.values() for layer in layers)


__all__ = [
    "LAYERS",
    "Conv2D",
    "DenseLayer",
    "HiddenLayer",
    "InputLayer",
    "Layer",
    "MaxPool2D",
    "OutputLayer",
    "ParameterLayer",
    "ReLU",
    "is_registered",
]
