"""PyTorch at its best: eager mode, functional calls, data in memory, the fastest of its updates.

A handcnn network is rebuilt with the weights it has, in the layout that PyTorch prefers, and can
be asked for its outputs, gradients and parameters in handcnn's layout, to be compared.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (this is what everybody calls it)

from handcnn.layers import Conv2D, InputLayer, Layer, OutputLayer, ParameterLayer
from handcnn.types import Array

# Four ways to write the same update. Which one is the fastest depends on sizes and threads.
UPDATES = ("p -= lr * p.grad", "p.add_(p.grad, alpha=-lr)", "SGD(foreach)", "SGD(fused)")


class Rival:
    """The same layers in PyTorch, with copies of the same parameters.

    `dtype` and learning rate are taken from the layers, of which only the first may be an
    `InputLayer` and only the last an `OutputLayer`.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.numbers = [i for i, layer in enumerate(layers) if not isinstance(layer, InputLayer)]
        self.layers = [layers[i] for i in self.numbers]
        self.learning_rate = self.layers[0].learning_rate
        self.tensors = [
            (tensor(to_torch(layer, layer.weights)), tensor(layer.bias.ravel()))
            for layer in self.layers
        ]
        self.flat = [p.requires_grad_() for pair in self.tensors for p in pair]
        self.optimizers = {
            "SGD(foreach)": torch.optim.SGD(self.flat, self.learning_rate, foreach=True),
            "SGD(fused)": torch.optim.SGD(self.flat, self.learning_rate, fused=True),
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the last layer; of an `OutputLayer` the logits."""
        for layer, (weights, bias) in zip(self.layers, self.tensors, strict=True):
            if isinstance(layer, Conv2D):
                x = F.conv2d(x, weights, bias, layer.stride, layer.padding)
            else:
                x = F.linear(x.flatten(1), weights, bias)
                x = x if isinstance(layer, OutputLayer) else F.relu(x)
        return x

    def backward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Leave the gradient of the summed cross-entropy in `grad`; return the loss."""
        loss = F.cross_entropy(logits, labels, reduction="sum")
        loss.backward()
        return loss

    def update(self, form: str) -> None:
        """Take the documented step, written in one of the forms of `UPDATES`."""
        if form in self.optimizers:
            self.optimizers[form].step()
        else:
            with torch.no_grad():
                for p in self.flat:
                    if form == "p -= lr * p.grad":
                        p -= self.learning_rate * p.grad
                    else:
                        p.add_(p.grad, alpha=-self.learning_rate)
        for p in self.flat:
            p.grad = None

    def step(self, x: torch.Tensor, labels: torch.Tensor, form: str) -> None:
        """Take one training step."""
        self.backward(self.forward(x), labels)
        self.update(form)

    def epoch(
        self, images: torch.Tensor, labels: torch.Tensor, batch: int, form: str
    ) -> tuple[float, float]:
        """Train on every image once, shuffled; return mean loss and accuracy, as handcnn does."""
        total, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for chosen in torch.randperm(len(images)).split(batch):
            x, y = images[chosen], labels[chosen]
            logits = self.forward(x)
            total += self.backward(logits, y).detach()
            correct += (logits.detach().argmax(1) == y).sum()
            self.update(form)
        return total.item() / len(images), correct.item() / len(images)

    def predict(self, images: torch.Tensor, batch: int) -> torch.Tensor:
        """Return the most probable class of every image."""
        with torch.inference_mode():
            return torch.cat([self.forward(x).argmax(1) for x in images.split(batch)])

    def parameters(self) -> dict[str, Array]:
        """Return copies of the parameters, named and laid out as those of the handcnn network."""
        return self._as_handcnn([p.detach() for p in self.flat])

    def gradients(self) -> dict[str, Array]:
        """Return copies of the gradients, named and laid out as those of the handcnn network."""
        return self._as_handcnn([p.grad for p in self.flat])

    def _as_handcnn(self, tensors: Sequence[torch.Tensor]) -> dict[str, Array]:
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        arrays = {}
        for i, layer, (weights, bias) in zip(self.numbers, self.layers, pairs, strict=True):
            arrays[f"layer{i}.weights"] = to_torch(layer, weights.numpy()).copy()
            arrays[f"layer{i}.bias"] = bias.numpy().reshape(layer.bias.shape).copy()
        return arrays


class RivalLayer:
    """One layer in PyTorch, its forward and its backward pass apart."""

    def __init__(self, layer: ParameterLayer, x: Array, dout: Array) -> None:
        self.x, self.dout = tensor(x).requires_grad_(), tensor(dout)
        self.rival = Rival([layer])
        self.softmax = isinstance(layer, OutputLayer)
        self.output = self.rival.forward(self.x)

    def forward(self) -> torch.Tensor:
        """Return the layer's output."""
        with torch.no_grad():
            z = self.rival.forward(self.x)
            return z.softmax(1) if self.softmax else z

    def backward(self) -> tuple[torch.Tensor, ...]:
        """Return dx, dweights and dbias."""
        wanted = (self.x, *self.rival.flat)
        return torch.autograd.grad(self.output, wanted, self.dout, retain_graph=True)

    def observe(self) -> dict[str, Array]:
        """Return the output and the gradients in handcnn's layout."""
        dx, *gradients = self.backward()
        named = self.rival._as_handcnn(gradients)
        return {
            "output": self.forward().numpy(),
            "dx": dx.numpy(),
            "dweights": named["layer0.weights"],
            "dbias": named["layer0.bias"],
        }


def to_torch(layer: Layer, weights: Array) -> Array:
    """Turn dense weights (D, M) into PyTorch's (M, D), or back; kernels are the same in both."""
    return weights if isinstance(layer, Conv2D) else weights.T


def tensor(array: Array) -> torch.Tensor:
    """Return a contiguous copy as a tensor."""
    return torch.from_numpy(np.array(array, order="C"))
