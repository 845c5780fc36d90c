"""The network: a list of layers, run forward, then backward, then updated."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from handcnn import fast
from handcnn.layers import Layer, ParameterLayer, sequence
from handcnn.layers.checks import check_size, show_shape
from handcnn.types import Array, Shape


class Network:
    """Layers in the order in which a batch passes through them.

    Args:
        layers: layers of `handcnn.layers`, or your own subclasses of `Layer`. You can read and
            change them in `net.layers`.
        input_shape: the shape of one input without N, for example (1, 28, 28). If it is given,
            layers that do not fit together are refused at once, and `print(net)` shows every shape.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Shape | None = None) -> None:
        self.layers = list(layers)
        self.input_shape = None if input_shape is None else _checked_shape(input_shape)
        if not self.parameters():
            raise ValueError(f"Network expects at least one layer with parameters, got {layers}")
        seen: set[int] = set()
        for layer in self.layers:
            if id(layer) in seen:
                raise ValueError(
                    f"Network expects distinct layer objects, got {layer} twice; "
                    "create a second one"
                )
            seen.add(id(layer))
        self.output_shapes()

    def forward(self, x: Array) -> Array:
        """Return the output of the last layer for the batch `x`: probabilities (N, K)."""
        return sequence.forward(self.layers, x)

    def backward(self, dout: Array) -> None:
        """Compute the gradient of every parameter and store it on its layer.

        The gradient with respect to the images is not needed, so it is not computed. To get it,
        call `backward` on the layers one by one.

        Args:
            dout: the gradient that the last layer expects, `loss_gradient(y_pred, y_true)`.

        Raises:
            RuntimeError: there was no forward pass yet.
        """
        sequence.backward_parameters(self.layers, dout)

    def update_params(self) -> None:
        """Take one SGD step in every layer.

        Raises:
            ValueError: a parameter is a read-only array. No parameter was changed.
        """
        self.check_writable()
        for layer in self.layers:
            layer.update_params()

    def set_learning_rate(self, rate: float) -> None:
        """Give every layer with parameters this learning rate."""
        for layer in self.layers:
            if isinstance(layer, ParameterLayer):
                layer.learning_rate = rate

    def train_step(self, x: Array, y: Array) -> Array:
        """Do `forward`, `backward` and `update_params` in one fast call (see `handcnn.fast`).

        The results are the same up to rounding. The gradients are not kept: to see them, call the
        three methods.

        Args:
            x: the batch (N, C, H, W).
            y: its one-hot labels (N, K).

        Returns:
            y_pred (N, K), computed before the update.
        """
        self.check_writable()
        return fast.train_step(self.layers, np.atleast_1d(x), np.atleast_1d(y))

    def outputs(self, x: Array) -> list[Array]:
        """Return the output of every layer for the batch `x`.

        The layers keep nothing of it. So it may be called between `forward` and `backward` without
        disturbing them, and by several threads at once.
        """
        return sequence.outputs(self.layers, x)

    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities (N, K) for any number of inputs, computed in batches.

        It may be called between `forward` and `backward` without disturbing them. If an input
        contains NaN, its probabilities are NaN.
        """
        return fast.predict_proba(self.layers, np.atleast_1d(x))

    def predict(self, x: Array) -> npt.NDArray[np.intp]:
        """Return the most probable class of every input, (N,), for any number of inputs.

        Raises:
            ValueError: the probabilities of an input are NaN, because it contains NaN, or because
                it or the parameters are too large to compute with.
        """
        probabilities = self.predict_proba(x)
        if unknown := np.argwhere(np.isnan(probabilities)).tolist():
            raise ValueError(
                f"predict finds no class for input {unknown[0][0]}: its probabilities are NaN; "
                "check it and the parameters for NaN and very large numbers"
            )
        classes: npt.NDArray[np.intp] = probabilities.argmax(axis=1)
        return classes

    def parameters(self) -> dict[str, Array]:
        """Return all parameters by name. `layer1.weights` is `net.layers[1].weights`, no copy."""
        return {
            f"layer{i}.{name}": array
            for i, layer in enumerate(self.layers)
            for name, array in layer.parameters().items()
        }

    def gradients(self) -> dict[str, Array]:
        """Return the gradients stored by `backward`, under the names of their parameters.

        Raises:
            RuntimeError: `backward` was not called yet.
        """
        return {
            f"layer{i}.{name}": array
            for i, layer in enumerate(self.layers)
            for name, array in layer.gradients().items()
        }

    def with_parameters(self, arrays: Mapping[str, Array]) -> "Network":
        """Return a network of the same layers with other parameters.

        Args:
            arrays: the same names and shapes as in `parameters`, in float32 or float64.

        Raises:
            ValueError: a name is missing or unexpected, or a shape or dtype does not fit.
        """
        if unknown := arrays.keys() ^ self.parameters().keys():
            raise ValueError(
                f"with_parameters expects exactly {', '.join(self.parameters())}; "
                f"missing or unexpected: {', '.join(sorted(unknown))}"
            )
        layers = sequence.copied(self.layers)
        for full_name, array in arrays.items():
            layer, name = full_name.split(".")
            setattr(layers[int(layer.removeprefix("layer"))], name, array)
        return Network(layers, self.input_shape)

    def architecture(self) -> dict[str, Any]:
        """Return everything about the network except its parameters, ready for JSON."""
        layers = [{"class": type(layer).__name__, **layer.config()} for layer in self.layers]
        dtypes = {name: array.dtype.name for name, array in self.parameters().items()}
        return {"input_shape": self.input_shape, "layers": layers, "dtypes": dtypes}

    def save(self, path: str | os.PathLike[str], **metadata: object) -> None:
        """Write the parameters to `path` (.npz) for `load_network`, completely or not at all.

        The arguments and errors are those of `handcnn.storage.networks.save_network`.
        """
        from handcnn.storage.networks import save_network  # the one import that points up

        save_network(self, path, **metadata)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to `path` as ONNX, for other programs; needs the extra `onnx`.

        The errors are those of `handcnn.storage.onnx_file.write_onnx`.
        """
        from handcnn.storage.onnx_file import write_onnx  # points up, as in `save`

        write_onnx(self, path)

    def output_shapes(self) -> list[Shape | None]:
        """Return the shape of one output of every layer, or None without an `input_shape`.

        Raises:
            ValueError: a layer does not fit the output of the layer before it.
        """
        shapes: list[Shape | None] = []
        shape = self.input_shape
        for layer in self.layers:
            shape = None if shape is None else layer.output_shape(shape)
            shapes.append(shape)
        return shapes

    def __repr__(self) -> str:
        """Return a table: every layer with its output shape and number of parameters."""
        lines = [("layer", "output", "parameters")]
        total = 0
        for layer, shape in zip(self.layers, self.output_shapes(), strict=True):
            output = "?" if shape is None else show_shape(("N", *shape))
            count = sum(array.size for array in layer.parameters().values())
            lines.append((str(layer), output, f"{count:,}"))
            total += count
        lines.append(("total", "", f"{total:,}"))
        widths = [max(len(line[column]) for line in lines) for column in range(3)]
        return "\n".join(
            f"{name:{widths[0]}}  {output:{widths[1]}}  {count:>{widths[2]}}"
            for name, output, count in lines
        )

    def check_writable(self) -> None:
        """Raise a ValueError if a parameter is read-only, before any parameter is updated."""
        for name, array in self.parameters().items():
            if not array.flags.writeable:
                raise ValueError(f"{name} is a read-only array; assign a copy of it to train it")


def _checked_shape(shape: Shape) -> Shape:
    """Return the shape of one input as Python ints."""
    return tuple(check_size("Network", "every size of input_shape", size) for size in shape)
