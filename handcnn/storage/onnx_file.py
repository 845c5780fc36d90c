"""Write a network as an ONNX file, which other programs run without handcnn.

ONNX stores a network as nodes between named arrays. `NODES` says for each layer which nodes
compute the same. ONNX flattens in the order C, H, W, as handcnn does, and counts the pixels of
images alike, so no array needs another order.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.layers import Conv2D, HiddenLayer, InputLayer, Layer, MaxPool2D, OutputLayer, ReLU
from handcnn.network import Network
from handcnn.storage.files import atomic_write
from handcnn.types import Array

# A node without its inputs and outputs: the name of its operation, its attributes, and the
# parameters that are its further inputs.
Node = tuple[str, Mapping[str, Any], tuple[Array, ...]]

# Old enough for most programs; in these versions, softmax already works row by row.
OPSET, IR_VERSION = 17, 8


def convolution(layer: Conv2D) -> list[Node]:
    """Return the node of a convolution."""
    side = {"strides": [layer.stride] * 2, "pads": [layer.padding] * 4}
    return [("Conv", side, (layer.weights, layer.bias[:, 0]))]


def dense(layer: HiddenLayer | OutputLayer, activation: Node) -> list[Node]:
    """Return the nodes of a dense layer, which flattens its input."""
    return [("Flatten", {}, ()), ("Gemm", {}, (layer.weights, layer.bias[0])), activation]


def pooling(layer: MaxPool2D) -> list[Node]:
    """Return the node of a max-pooling."""
    side = {"kernel_shape": [layer.size] * 2, "strides": [layer.stride] * 2}
    return [("MaxPool", side, ())]


NODES: dict[type[Layer], Callable[[Any], list[Node]]] = {
    InputLayer: lambda layer: [],
    Conv2D: convolution,
    MaxPool2D: pooling,
    ReLU: lambda layer: [("Relu", {}, ())],
    HiddenLayer: lambda layer: dense(layer, ("Relu", {}, ())),
    OutputLayer: lambda layer: dense(layer, ("Softmax", {"axis": 1}, ())),
}


def write_onnx(net: Network, path: str | os.PathLike[str]) -> None:
    """Write `net` to `path` as ONNX, in float32, completely or not at all.

    Its input `images` is (N, C, H, W) and its output `probabilities` (N, K), for any N.

    Raises:
        ValueError: the network has no input_shape, or a layer is not one of handcnn's.
        HandcnnError: the library onnx is not installed.
        OSError: the file cannot be written.
    """
    if net.input_shape is None:
        raise ValueError(
            "to_onnx expects a network that knows the shape of an image, got one without; "
            "give it to Network(layers, input_shape)"
        )
    if strangers := [layer for layer in net.layers if type(layer) not in NODES]:
        known = ", ".join(layer.__name__ for layer in NODES)
        raise ValueError(f"to_onnx expects layers of {known}, got {strangers[0]}")
    try:
        import onnx
    except ImportError:
        raise HandcnnError(
            "onnx is not installed in this Python; install it with: python -m pip install onnx"
        ) from None
    model = onnx.helper.make_model(
        _graph(net),
        producer_name="handcnn",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model)
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def _graph(net: Network) -> Any:
    """Return the nodes and arrays of a network with an input_shape."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, arrays, last = [], [], "images"
    for i, layer in enumerate(net.layers):
        for operation, attributes, parameters in NODES[type(layer)](layer):
            names = [f"layer{i}.{name}" for name in ("weights", "bias")[: len(parameters)]]
            for name, array in zip(names, parameters, strict=True):
                arrays.append(numpy_helper.from_array(np.ascontiguousarray(array, "<f4"), name))
            output = f"layer{i}.{operation}"
            nodes.append(helper.make_node(operation, [last, *names], [output], **attributes))
            last = output
    nodes[-1].output[0] = "probabilities"
    ends = {"images": net.input_shape, "probabilities": net.output_shapes()[-1]}
    images, probabilities = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *(shape or ())])
        for name, shape in ends.items()
    )
    return helper.make_graph(nodes, "handcnn", [images], [probabilities], arrays)
