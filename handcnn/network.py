"""The network: a list of layers, run forwards, then backwards, then updated."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from handcnn.folding import FoldedPair, is_worth_folding
from handcnn.layers import (
    LAYERS,
    Conv2D,
    DenseLayer,
    HiddenLayer,
    InputLayer,
    Layer,
    OutputLayer,
    ParameterLayer,
    show_shape,
)
from handcnn.storage.archive import write_archive
from handcnn.types import Array, Shape

# Images in a batch of a prediction: folded, they only meet M; else their windows have to fit L2.
FOLDED_BATCH, UNFOLDED_BATCH = 1000, 64


def documented_network(
    learning_rate: float = 0.001,
    *,
    rng: np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> "Network":
    """Return the documented network for 28x28 grey images and ten classes.

    Args:
        learning_rate: of every layer.
        rng: source of the initial weights; the same generator gives the same network.
        dtype: of the parameters; `numpy.float64` for gradient checks.
    """
    rng = np.random.default_rng() if rng is None else rng
    layers = [
        InputLayer(),
        Conv2D(1, 32, 3, padding=1, learning_rate=learning_rate, rng=rng, dtype=dtype),
        HiddenLayer(32 * 28 * 28, 64, learning_rate, rng=rng, dtype=dtype),
        OutputLayer(64, 10, learning_rate, rng=rng, dtype=dtype),
    ]
    return Network(layers, input_shape=(1, 28, 28))


class Network:
    """Layers in the order in which a batch passes through them.

    Args:
        layers: layers of `handcnn.layers`, or of the reader's own derived from `Layer` there. They
            stay reachable, and changeable, as `net.layers`.
        input_shape: the shape of one input without N, for example (1, 28, 28). With it, layers
            that do not fit together are refused at once, and `print(net)` shows every shape.
        fold: compute a convolution and the dense layer behind it as one linear map, where that is
            cheaper (see `handcnn.folding`); the results are the same to rounding.
    """

    def __init__(
        self, layers: Sequence[Layer], input_shape: Shape | None = None, fold: bool = True
    ) -> None:
        self.layers = list(layers)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.fold = fold
        self._steps: list[Layer] = []  # of the last forward pass
        self._pairs: dict[tuple[Layer, Layer], FoldedPair] = {}
        if not self.parameters():
            raise ValueError(f"Network expects at least one layer with parameters, got {layers}")
        self.output_shapes()

    def forward(self, x: Array) -> Array:
        """Return the output of the last layer for the batch `x`: probabilities (N, K)."""
        self._steps = self._plan(len(x))
        for step in self._steps:
            x = step.forward(x)
        return x

    def backward(self, dout: Array) -> None:
        """Leave the gradient of every parameter on its layer.

        Args:
            dout: what the last layer's `backward` takes: `loss_gradient(y_pred, y_true)`.

        Nobody reads the gradient with respect to the images, so it is not computed; whoever wants
        it calls `backward` on the layers one by one.

        Raises:
            RuntimeError: there was no forward pass yet.
        """
        steps = self._steps or self.layers
        first, *others = (step for step in steps if type(step) is not InputLayer)
        for step in reversed(others):
            dout = step.backward(dout)
        if isinstance(first, FoldedPair) or type(first).backward is ParameterLayer.backward:
            first.parameter_gradients(dout)
        else:
            first.backward(dout)

    def update_params(self) -> None:
        """Take one step of gradient descent in every layer."""
        for layer in self.layers:
            layer.update_params()

    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities (N, K) for any number of inputs, computed in batches.

        Works on copies of the layers that share the parameters, so that it may be called between
        `forward` and `backward` without disturbing them.
        """
        net = Network([copy.copy(layer) for layer in self.layers], fold=self.fold)
        steps = net._plan(len(x), frozen=True)
        folded = any(isinstance(step, FoldedPair) for step in steps)
        size = FOLDED_BATCH if folded else UNFOLDED_BATCH
        batches = []
        for start in range(0, max(len(x), 1), size):
            a = x[start : start + size]
            for step in steps:
                a = step.forward(a)
            batches.append(a)
        return np.concatenate(batches)

    def predict(self, x: Array) -> npt.NDArray[np.intp]:
        """Return the most probable class (N,) of every input, of which there may be any number."""
        classes: npt.NDArray[np.intp] = self.predict_proba(x).argmax(axis=1)
        return classes

    def parameters(self) -> dict[str, Array]:
        """Return every parameter by name: `layer1.weights` is `net.layers[1].weights` itself."""
        return {
            f"layer{i}.{name}": array
            for i, layer in enumerate(self.layers)
            for name, array in layer.parameters().items()
        }

    def gradients(self) -> dict[str, Array]:
        """Return what `backward` left on the layers, named as `parameters` names them."""
        return {
            f"layer{i}.{name}": getattr(layer, f"d{name}")
            for i, layer in enumerate(self.layers)
            for name in layer.parameters()
        }

    def with_parameters(self, arrays: Mapping[str, Array]) -> "Network":
        """Return a network of the same layers with `arrays`, named as `parameters` names them."""
        net = Network([copy.copy(layer) for layer in self.layers], self.input_shape, self.fold)
        for full_name, array in arrays.items():
            layer, name = full_name.split(".")
            setattr(net.layers[int(layer.removeprefix("layer"))], name, array)
        return net

    def architecture(self) -> dict[str, Any]:
        """Return what the network is apart from its parameters, as JSON can say it."""
        layers = [{"class": type(layer).__name__, **layer.config()} for layer in self.layers]
        dtypes = {name: array.dtype.name for name, array in self.parameters().items()}
        return {"input_shape": self.input_shape, "layers": layers, "dtypes": dtypes}

    def save(self, path: str | os.PathLike[str], **metadata: object) -> None:
        """Write the parameters to `path` (.npz) for `load_network`, completely or not at all.

        Args:
            path: the file; the name is taken as it is.
            metadata: anything JSON can say that should be kept with the weights.

        Raises:
            ValueError: a layer is not one of handcnn's, or a name in `metadata` is one that the
                file itself uses.
            HandcnnError: a parameter is not finite; what is under `path` stays as it is.
            OSError: the file cannot be written.
        """
        architecture = self.architecture()
        if strangers := [layer for layer in self.layers if type(layer) not in LAYERS.values()]:
            raise ValueError(
                f"Network.save expects layers of {', '.join(LAYERS)}, got {strangers[0]}; "
                "keep the parameters of other layers with numpy.savez"
            )
        if taken := {"format", "version", "kind", *architecture} & metadata.keys():
            raise ValueError(
                f"Network.save expects another name for the metadata {min(taken)!r}, "
                "which the file uses itself"
            )
        write_archive(path, "weights", self.parameters(), {**architecture, **metadata})

    def output_shapes(self) -> list[Shape | None]:
        """Return the shape of one output of every layer, None where the input is not known.

        Raises:
            ValueError: a layer does not fit what comes before it.
        """
        shapes: list[Shape | None] = []
        shape = self.input_shape
        for layer in self.layers:
            shape = None if shape is None else layer.output_shape(shape)
            shapes.append(shape)
        return shapes

    def _plan(self, images: int, frozen: bool = False) -> list[Layer]:
        """Return the layers in order, each pair that is worth it folded into one."""
        steps: list[Layer] = []
        for layer in self.layers:
            if self.fold and steps and is_worth_folding(steps[-1], layer, images):
                conv, dense = cast(Conv2D, steps.pop()), cast(DenseLayer, layer)
                layer = self._pairs.setdefault((conv, dense), FoldedPair(conv, dense, frozen))
            steps.append(layer)
        return steps

    def __repr__(self) -> str:
        """Return a table: every layer with its output shape and number of parameters."""
        rows = [("layer", "output", "parameters")]
        total = 0
        for layer, shape in zip(self.layers, self.output_shapes(), strict=True):
            output = "?" if shape is None else show_shape(("N", *shape))
            count = sum(array.size for array in layer.parameters().values())
            rows.append((str(layer), output, f"{count:,}"))
            total += count
        rows.append(("total", "", f"{total:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            f"{name:{widths[0]}}  {output:{widths[1]}}  {count:>{widths[2]}}"
            for name, output, count in rows
        )
