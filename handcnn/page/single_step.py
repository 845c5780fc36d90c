"""One training step as arithmetic: every parameter, its gradient, and what the step made of it.

The step itself was taken by `train_step`, the fast way. Here its gradients are computed as
docs/backprop.md derives them, with `forward` and `backward` on a copy of the network before the
step. The new parameters are those that the training goes on with; they agree with w - rate * dw up
to rounding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from handcnn.kernels.products import slices
from handcnn.layers import Conv2D, ParameterLayer
from handcnn.loss import loss_function, loss_gradient
from handcnn.network import Network
from handcnn.page.encoding import base64_text
from handcnn.training import Step, copies
from handcnn.types import Array

IMAGES = 64  # the most images that are shown
IMAGES_AT_ONCE = 16  # images computed at once, so that it takes little memory
WEIGHTS = 9  # of a unit of a dense layer; it has thousands


class SingleStep:
    """One step of a training, to be looked at.

    Attributes:
        batch: its images, the answers, and the loss before and after the step, as JSON values.

    Args:
        number: of the step, counted from the start of the run.
        net: the network after the step.
        before: its parameters before the step, by name.
        step: what `training.train` yielded after it.
    """

    def __init__(self, number: int, net: Network, before: Mapping[str, Array], step: Step) -> None:
        labels, answers = (rows.argmax(axis=1) for rows in (step.y, step.y_pred))
        self.batch = {
            "number": number,
            "count": len(labels),
            "correct": step.correct,
            "images": base64_text(_grey(step.x[:IMAGES, 0])),
            "labels": labels[:IMAGES].tolist(),
            "answers": answers[:IMAGES].tolist(),
            "rate": step.learning_rate,
            "loss": step.loss,
            "lossAfter": loss_function(net.predict_proba(step.x), step.y),
        }
        self.number = number
        self.before, self.after = before, copies(net.parameters())
        self.gradients = _gradients(net.with_parameters(before), step.x, step.y)
        self.layers = {
            i: layer for i, layer in enumerate(net.layers) if isinstance(layer, ParameterLayer)
        }

    def weights(self, layer: int, unit: int | None) -> dict[str, Any]:
        """Return w, dw and the new w of one kernel, or of some weights of one unit.

        Args:
            layer: the index of a layer with parameters.
            unit: of its kernels or units; None for the one with the largest gradient.
        """
        is_kernel = isinstance(self.layers[layer], Conv2D)
        gradient = self.gradients[f"layer{layer}.weights"]
        by_unit = gradient if is_kernel else gradient.T  # (F, C, k, k) or (M, D)
        if unit is None:
            sizes = np.abs(by_unit).reshape(len(by_unit), -1).max(axis=1)
            unit = int(sizes.argmax())
        if is_kernel:
            channel = int(np.abs(gradient[unit]).max(axis=(1, 2)).argmax())
            places = list(np.ndindex(gradient.shape[2:]))
            picked = tuple(np.array([(unit, channel, *place) for place in places]).T)
        else:
            channel = None
            inputs = np.sort(np.abs(gradient[:, unit]).argsort(kind="stable")[-WEIGHTS:])
            places = [(int(d),) for d in inputs]
            picked = (inputs, np.full(len(inputs), unit))
        bias = (unit, 0) if is_kernel else (0, unit)
        return {
            "layer": layer,
            "unit": unit,
            "channel": channel,
            "places": places,
            "side": gradient.shape[-1] if is_kernel else None,
            **self._figures(f"layer{layer}.weights", picked),
            "bias": self._figures(f"layer{layer}.bias", tuple(np.array([bias]).T)),
        }

    def _figures(self, name: str, picked: tuple[Array, ...]) -> dict[str, list[float]]:
        """Return some entries of a parameter, its gradient and the new parameter."""
        return {
            "old": self.before[name][picked].tolist(),
            "gradient": self.gradients[name][picked].tolist(),
            "new": self.after[name][picked].tolist(),
        }


def _grey(x: Array) -> Array:
    """Return images with values from 0 to 1 as bytes."""
    grey: Array = np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8)
    return grey


def _gradients(net: Network, x: Array, y: Array) -> dict[str, Array]:
    """Return the gradients of a batch, a sum over its images, in parts that need little memory."""
    total: dict[str, Array] = {}
    for few in slices(slice(0, len(x)), IMAGES_AT_ONCE):
        net.backward(loss_gradient(net.forward(x[few]), y[few]))
        for name, gradient in net.gradients().items():
            if name in total:
                total[name] += gradient
            else:
                total[name] = gradient
    return total
