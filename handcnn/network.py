"""The network: a list of layers, run forwards, then backwards, then updated."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from handcnn.kernels.fused import Geometry, fuse, is_cheaper, update_fused
from handcnn.kernels.products import matmul, slices
from handcnn.kernels.threads import share
from handcnn.layers import Conv2D, HiddenLayer, InputLayer, Layer, ParameterLayer, is_own
from handcnn.layers.checks import check_size, show_shape
from handcnn.layers.dense import flatten
from handcnn.loss import loss_gradient
from handcnn.types import Array, Shape

# Images in a batch of a prediction. Fused, they only meet M; else their windows have to fit L2.
FUSED_BATCH, LITERAL_BATCH = 1000, 64


class Network:
    """Layers in the order in which a batch passes through them.

    Args:
        layers: layers of `handcnn.layers`, or your own derived from `Layer`. They stay reachable,
            and changeable, as `net.layers`.
        input_shape: the shape of one input without N, for example (1, 28, 28). With it, layers
            that do not fit together are refused at once, and `print(net)` shows every shape.
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
                    f"Network expects layers that are all different objects, got {layer} twice; "
                    "build a second one"
                )
            seen.add(id(layer))
        self.output_shapes()

    def forward(self, x: Array) -> Array:
        """Return the output of the last layer for the batch `x`: probabilities (N, K)."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout: Array) -> None:
        """Leave the gradient of every parameter on its layer.

        Nobody reads the gradient with respect to the images, so it is not computed. To get it, call
        `backward` on the layers one by one.

        Args:
            dout: what the last layer's `backward` takes: `loss_gradient(y_pred, y_true)`.

        Raises:
            RuntimeError: there was no forward pass yet.
        """
        first = next(i for i, layer in enumerate(self.layers) if layer.parameters())
        for layer in reversed(self.layers[first + 1 :]):
            dout = layer.backward(dout)
        if is_own(self.layers[first]):
            self.layers[first].backward_parameters(dout)
        else:  # a subclass may do more in its backward
            self.layers[first].backward(dout)

    def update_params(self) -> None:
        """Take one SGD step in every layer.

        Raises:
            ValueError: a parameter is a read-only array. None has changed then.
        """
        self._check_writable()
        for layer in self.layers:
            layer.update_params()

    def set_learning_rate(self, rate: float) -> None:
        """Give every layer with parameters this learning rate."""
        for layer in self.layers:
            if isinstance(layer, ParameterLayer):
                layer.learning_rate = rate

    def train_step(self, x: Array, y: Array) -> Array:
        """Do `forward`, `backward` and `update_params` in one, the fast way.

        Where a convolution comes first and a hidden layer second, they are computed as one linear
        map (see `handcnn.kernels.fused`). The results are the same to rounding. The gradients are
        not kept: to look at them, call the three one by one.

        Args:
            x: the batch (N, C, H, W).
            y: its one-hot labels (N, K).

        Returns:
            y_pred (N, K), from before the update.
        """
        self._check_writable()
        if layers := self._fusable(x):
            return self._fused_step(x, y, *layers)
        if is_own(*self.layers):
            return self._shared_step(x, y)
        y_pred = self.forward(x)  # a layer of your own may do more than add up gradients
        self.backward(loss_gradient(y_pred, y))
        self.update_params()
        return y_pred

    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities (N, K) for any number of inputs, computed in batches.

        It may be called between `forward` and `backward` without disturbing them.
        """
        net = self._copy()
        if layers := net._fusable(x):
            forward = fused_forward(x, *layers)
            return _in_batches(forward, x, slice(0, len(x)), FUSED_BATCH)

        def work(images: slice) -> Array:
            return _in_batches(self._copy().forward, x, images, LITERAL_BATCH)

        return np.concatenate(share(work, len(x), self._multiplications(x)))

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
        """Return what `backward` left on the layers, named as `parameters` names them.

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
            arrays: exactly the names and shapes that `parameters` gives, float32 or float64.

        Raises:
            ValueError: a name is missing or too many, or a shape or dtype does not fit.
        """
        if unknown := arrays.keys() ^ self.parameters().keys():
            raise ValueError(
                f"with_parameters expects exactly {', '.join(self.parameters())}; "
                f"missing or too many: {', '.join(sorted(unknown))}"
            )
        layers = [copy.copy(layer) for layer in self.layers]
        for full_name, array in arrays.items():
            layer, name = full_name.split(".")
            setattr(layers[int(layer.removeprefix("layer"))], name, array)
        return Network(layers, self.input_shape)

    def architecture(self) -> dict[str, Any]:
        """Return what the network is apart from its parameters, as JSON can say it."""
        layers = [{"class": type(layer).__name__, **layer.config()} for layer in self.layers]
        dtypes = {name: array.dtype.name for name, array in self.parameters().items()}
        return {"input_shape": self.input_shape, "layers": layers, "dtypes": dtypes}

    def save(self, path: str | os.PathLike[str], **metadata: object) -> None:
        """Write the parameters to `path` (.npz) for `load_network`, completely or not at all.

        The arguments and errors are those of `handcnn.storage.networks.save_network`.
        """
        from handcnn.storage.networks import save_network  # the one arrow that points up

        save_network(self, path, **metadata)

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

    def _fusable(self, x: Array) -> "tuple[Conv2D, HiddenLayer, list[Layer]] | None":
        """Return the convolution and the hidden layer in front, and the rest, if fusing is cheaper.

        A subclass may compute something else, so only handcnn's own classes will do. W is read in
        other shapes, so it must be C-contiguous.
        """
        match [layer for layer in self.layers if type(layer) is not InputLayer]:
            case [Conv2D() as conv, HiddenLayer() as hidden, *rest] if is_own(conv, hidden):
                K, W = conv.parameters()["weights"], hidden.parameters()["weights"]
                if is_cheaper(len(x), K) and W.dtype == K.dtype and W.flags.c_contiguous:
                    return conv, hidden, rest
        return None

    def _shared_step(self, x: Array, y: Array) -> Array:
        """Take the step of `train_step` with the images shared between the threads.

        Each thread runs copies of the layers on its images. The gradients are sums over images, so
        those of the threads are added up.
        """
        if len(x) != len(y):
            raise ValueError(
                f"train_step expects a row of labels for each image, got {len(x)} images and "
                f"{len(y)} rows"
            )

        def work(images: slice) -> tuple[Array, Network]:
            net = self._copy()
            y_pred = net.forward(x[images])
            net.backward(loss_gradient(y_pred, y[images]))
            return y_pred, net

        parts = share(work, len(x), 3 * self._multiplications(x))  # forward, and two ways back
        _, first = parts[0]
        gradients = first.gradients()
        for _, other in parts[1:]:
            for name, gradient in other.gradients().items():
                gradients[name] += gradient
        first.update_params()
        return np.concatenate([y_pred for y_pred, _ in parts])

    def _check_writable(self) -> None:
        """Refuse to begin an update that could not be finished."""
        for name, array in self.parameters().items():
            if not array.flags.writeable:
                raise ValueError(f"{name} is a read-only array; assign a copy of it to train it")

    def _copy(self) -> "Network":
        """Return a network with the same parameters, whose layers keep their own x."""
        self.parameters()  # brought to one dtype before they are shared
        net = copy.copy(self)
        net.layers = [copy.copy(layer) for layer in self.layers]
        return net

    def _multiplications(self, x: Array) -> int:
        """Return about how many multiplications the forward pass of a batch takes."""
        shape, each = x.shape[1:], 0
        for layer in self.layers:
            each += layer.work(shape)
            shape = layer.output_shape(shape)
        return len(x) * each

    def _fused_step(
        self, x: Array, y: Array, conv: Conv2D, hidden: HiddenLayer, rest: list[Layer]
    ) -> Array:
        """Take the step of `train_step` with the convolution and the hidden layer fused."""
        x, geometry = fused_input(conv, hidden, x)  # (N, C*H*W)
        M, m = fuse(conv.weights, conv.bias, hidden.weights, geometry)
        z = matmul(x, M) + (m + hidden.bias)  # (N, M)
        y_pred: Array = np.maximum(0, z)
        for layer in rest:
            y_pred = layer.forward(y_pred)

        dout = loss_gradient(y_pred, y)
        for layer in reversed(rest):
            dout = layer.backward(dout)
        dz = np.asarray(dout, z.dtype) * (z > 0)
        dM, dm = matmul(x.T, dz), dz.sum(axis=0)

        for layer in rest:
            layer.update_params()
        hidden.bias -= hidden.learning_rate * dm
        rates = conv.learning_rate, hidden.learning_rate
        update_fused(conv.weights, conv.bias, hidden.weights, dM, dm, geometry, rates)
        return y_pred


def _checked_shape(shape: Shape) -> Shape:
    """Return the shape of one input as plain whole numbers."""
    return tuple(check_size("Network", "every size of input_shape", size) for size in shape)


def _in_batches(forward: Callable[[Array], Array], x: Array, images: slice, size: int) -> Array:
    """Return what `forward` gives for these images, some at a time."""
    if images.start == images.stop:  # no images, but the right shape
        return forward(x[images])
    return np.concatenate([forward(x[few]) for few in slices(images, size)])


def fused_forward(
    x: Array, conv: Conv2D, hidden: HiddenLayer, rest: list[Layer]
) -> Callable[[Array], Array]:
    """Return a forward pass for batches shaped as `x`, fused once for all of them."""
    _, geometry = fused_input(conv, hidden, x)
    M, m = fuse(conv.weights, conv.bias, hidden.weights, geometry)

    def forward(batch: Array) -> Array:
        z = matmul(fused_input(conv, hidden, batch)[0], M) + (m + hidden.bias)
        a: Array = np.maximum(0, z)
        for layer in rest:
            a = layer.forward(a)
        return a

    return forward


def fused_input(conv: Conv2D, hidden: HiddenLayer, x: Array) -> tuple[Array, Geometry]:
    """Return the batch as rows (N, C*H*W) and what the convolution does to each, or complain."""
    x = conv.check_input(x)
    output_shape = conv.output_shape(x.shape[1:])
    hidden.output_shape(output_shape)
    return flatten(x), Geometry(x.shape[1:], output_shape, conv.stride, conv.padding)
