"""The PyTorch baseline, as fast as possible: eager mode, fused SGD, the better memory format.

A handcnn network is rebuilt layer by layer in ordinary PyTorch, with copies of its parameters, and
called in the same way: NumPy arrays in, probabilities out.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from handcnn import Conv2D, HandcnnError, HiddenLayer, InputLayer, MaxPool2D, Network, ReLU
from handcnn.layers import DenseLayer, Layer
from handcnn.types import Array

# Which memory format is faster depends on the network.
ORDERS = {"PyTorch": torch.contiguous_format, "PyTorch, channels last": torch.channels_last}
PREDICTION_BATCH = 64  # larger ones leave the cache


class Baseline(Network):
    """A network in PyTorch.

    Args:
        net: the same network in handcnn.
        order: the memory format, one of `ORDERS`.
    """

    def __init__(self, net: Network, order: torch.memory_format) -> None:
        # Without the softmax of the output layer: PyTorch's loss takes logits.
        self.model = nn.Sequential(*(module for layer in net.layers for module in rebuild(layer)))
        arrays = net.parameters()
        self.shapes = {name: array.shape for name, array in arrays.items()}
        for p, array in zip(self.model.parameters(), arrays.values(), strict=True):
            if array.ndim == 4:
                p.data = torch.tensor(array).contiguous(memory_format=order)
            else:  # dense weights are (M, D) in PyTorch, and biases flat
                p.data = torch.tensor(array.T).reshape(p.shape)
        self.sgd = torch.optim.SGD(self.model.parameters(), fused=True)
        super().__init__(net.layers)

    def train_step(self, x: Array, y: Array) -> Array:
        """Take one step on the summed loss; return y_pred (N, K), computed before the update."""
        logits = self.model(torch.from_numpy(x))
        loss = cross_entropy(logits, torch.from_numpy(y.argmax(axis=1)), reduction="sum")
        torch.autograd.backward(loss)
        self.sgd.step()
        self.sgd.zero_grad()
        y_pred: Array = logits.detach().softmax(1).numpy()
        return y_pred

    @torch.inference_mode()
    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities (N, K)."""
        parts = torch.split(torch.from_numpy(x), PREDICTION_BATCH)
        y_pred: Array = torch.cat([self.model(part) for part in parts]).softmax(1).numpy()
        return y_pred

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate, for the gradient of the summed loss."""
        self.sgd.param_groups[0]["lr"] = rate

    def parameters(self) -> dict[str, Array]:
        """Return the parameters, not copies, with the names and shapes of handcnn."""
        arrays = (p.detach().numpy() for p in self.model.parameters())
        return {
            name: (array.T if array.ndim == 2 else array).reshape(shape)
            for (name, shape), array in zip(self.shapes.items(), arrays, strict=True)
        }


def rebuild(layer: Layer) -> list[nn.Module]:
    """Return PyTorch modules that compute the same as `layer`, with new parameters."""
    match layer:
        case InputLayer():
            return []
        case ReLU():
            return [nn.ReLU()]
        case MaxPool2D():
            return [nn.MaxPool2d(layer.size, layer.stride)]
        case Conv2D():
            sizes = layer.in_channels, layer.out_channels, layer.kernel_size
            return [nn.Conv2d(*sizes, layer.stride, layer.padding)]
        case DenseLayer():
            dense = [nn.Flatten(), nn.Linear(*layer.weights.shape)]
            return [*dense, nn.ReLU()] if isinstance(layer, HiddenLayer) else dense
    raise HandcnnError(f"benchmarks/pytorch.py cannot rebuild {layer}; add it to rebuild")
