"""Networks by name."""

import numpy as np
import numpy.typing as npt

from handcnn.layers import Conv2D, HiddenLayer, InputLayer, OutputLayer
from handcnn.network import Network


def documented_network(
    learning_rate: float = 0.001,
    *,
    rng: np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Network:
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
