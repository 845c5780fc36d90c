"""The PyTorch baseline at its best: eager mode, functional calls, the fastest way to update.

A handcnn network is rebuilt in PyTorch's own layout, with copies of its parameters. To be compared,
parameters and gradients come back in handcnn's layout.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from benchmarks.timing import Run
from handcnn import Conv2D, HiddenLayer, Network, OutputLayer
from handcnn.layers import ParameterLayer
from handcnn.types import Array

# Two ways to write the update. Which one is faster depends on sizes and threads.
FORMS = ("p.add_(p.grad, alpha=-lr)", "SGD(fused=True)")


class Baseline:
    """The layers of `net` in PyTorch."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.layers = [layer for layer in net.layers if isinstance(layer, ParameterLayer)]
        self.parameters = [
            to_torch(name, array).requires_grad_() for name, array in net.parameters().items()
        ]
        self.learning_rate = self.layers[0].learning_rate
        self.fused = torch.optim.SGD(self.parameters, self.learning_rate, fused=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return z of the last layer."""
        pairs = zip(self.parameters[::2], self.parameters[1::2], strict=True)
        for layer, (weights, bias) in zip(self.layers, pairs, strict=True):
            if isinstance(layer, Conv2D):
                x = F.conv2d(x, weights, bias, layer.stride, layer.padding)
            else:
                x = F.linear(x.flatten(1), weights, bias)
                x = F.relu(x) if isinstance(layer, HiddenLayer) else x
        return x

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """Return the output of the last layer: of an `OutputLayer`, the probabilities."""
        z = self.forward(x)
        return z.softmax(1) if isinstance(self.layers[-1], OutputLayer) else z

    def backward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Leave the gradients of the summed cross-entropy in `grad` and return the loss."""
        loss = F.cross_entropy(logits, labels, reduction="sum")
        torch.autograd.backward(loss)
        return loss.detach()

    def gradients(self) -> list[Tensor]:
        """Return what `backward` left."""
        return [p.grad for p in self.parameters if p.grad is not None]

    def update(self, form: str) -> None:
        """Take the documented update in one of `FORMS` and drop the gradients."""
        if form == "SGD(fused=True)":
            self.fused.step()
        else:
            with torch.no_grad():
                for p, gradient in zip(self.parameters, self.gradients(), strict=True):
                    p.add_(gradient, alpha=-self.learning_rate)
        for p in self.parameters:
            p.grad = None

    def step(self, x: Tensor, labels: Tensor, form: str = FORMS[0]) -> tuple[Tensor, Tensor]:
        """Take one training step; return logits and loss from before the update."""
        logits = self.forward(x)
        loss = self.backward(logits, labels)
        self.update(form)
        return logits, loss

    def steps(self, x: Array, y: Array) -> dict[str, Run]:
        """Return a training step on one batch in each of `FORMS`."""
        batch = tensor(x), tensor(y.argmax(axis=1))
        return {form: partial(self.step, *batch, form) for form in FORMS}

    def epoch(self, images: Tensor, labels: Tensor, batch: int) -> tuple[float, float]:
        """Train on every image once, shuffled; return mean loss and accuracy."""
        total, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for chosen in torch.split(torch.randperm(len(images)), batch):
            x, y = images[chosen], labels[chosen]
            logits, loss = self.step(x, y)
            total += loss
            correct += (logits.argmax(1) == y).sum()
        return total.item() / len(images), correct.item() / len(images)

    @torch.inference_mode()
    def logits(self, images: Tensor, batch: int) -> Tensor:
        """Return the logits of every image."""
        return torch.cat([self.forward(x) for x in torch.split(images, batch)])

    def predict(self, images: Tensor, batch: int) -> Tensor:
        """Return the most probable class of every image."""
        return self.logits(images, batch).argmax(1)

    def passes(self, x: Array, dout: Array) -> dict[str, Run]:
        """Return forward and backward of a single layer, to be timed apart."""
        images = tensor(x).requires_grad_()
        z, wanted = self.forward(images), (images, *self.parameters)
        backward = partial(torch.autograd.grad, z, wanted, tensor(dout), retain_graph=True)
        return {"forward": partial(self.outputs, images), "backward": backward}

    def in_handcnn(self, tensors: Sequence[Tensor]) -> dict[str, Array]:
        """Return copies of parameters or gradients, named and laid out as in handcnn."""
        arrays = [t.detach().numpy().copy() for t in tensors]
        return {
            name: (array.T if array.ndim == 2 else array).reshape(ours.shape)
            for (name, ours), array in zip(self.net.parameters().items(), arrays, strict=True)
        }


def to_torch(name: str, array: Array) -> Tensor:
    """Return a bias flat, dense weights (D, M) as (M, D), and kernels as they are."""
    if name.endswith("bias"):
        return tensor(array.ravel())
    return tensor(array.T if array.ndim == 2 else array)


def to_tensors(images: Array, labels: Array) -> tuple[Tensor, Tensor]:
    """Return bytes (N, H, W) as floats (N, 1, H, W) in [0, 1], and labels (N,)."""
    return tensor(images[:, None] / np.float32(255)), tensor(labels.astype(np.int64))


def tensor(array: Array) -> Tensor:
    """Return a contiguous copy."""
    return torch.from_numpy(np.array(array, order="C"))
