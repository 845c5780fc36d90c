"""handcnn: a convolutional network written by hand in NumPy, every gradient derived on paper.

The letters used for shapes, everywhere in this package and its documentation:

    N  images in a batch        F       filters of a convolution
    C  channels of an image     k, s, p kernel size, stride, padding
    H  height, W  width         OH, OW  height and width of its output, (H + 2p - k)//s + 1
    K  classes                  D, M    inputs and units of a dense layer

A small letter counts what its capital holds: n is an image, c a channel, h, w a pixel, f a filter,
d an input, m a unit (of the output layer: a class). i, j is a position of the output, u, v a place
in the kernel. x is the input of a layer, z = x weights + bias, and a the output. A is the matrix of
all kernels; G, g are the weights and the bias of two layers fused into one.

Importing the package loads no library but NumPy.
"""

import sys
from importlib.util import find_spec

# While Python looks for the module of `python -m handcnn` or `python -m data`, argv[0] is "-m".
if sys.argv[0] == "-m" and find_spec("numpy") is None:
    sys.exit("handcnn: numpy is not installed in this Python; use make, or see README.md")

from handcnn.errors import HandcnnError
from handcnn.kernels.threads import use_threads
from handcnn.layers import Conv2D, HiddenLayer, InputLayer, MaxPool2D, OutputLayer, ReLU
from handcnn.loss import loss_function, loss_gradient
from handcnn.models import documented_network
from handcnn.network import Network
from handcnn.storage.networks import load_network

__version__ = "0.2.0"

__all__ = [
    "Conv2D",
    "HandcnnError",
    "HiddenLayer",
    "InputLayer",
    "MaxPool2D",
    "Network",
    "OutputLayer",
    "ReLU",
    "documented_network",
    "load_network",
    "loss_function",
    "loss_gradient",
    "use_threads",
]
