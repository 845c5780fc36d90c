"""The weights file for predict.py and draw.py: find it, read it, describe it."""

from pathlib import Path
from typing import Any

from handcnn.app.commands import train_command
from handcnn.errors import HandcnnError
from handcnn.layers import OutputLayer
from handcnn.network import Network
from handcnn.storage import runs
from handcnn.storage.networks import read_weights
from handcnn.text import one_line

INPUT_SHAPE = (1, 28, 28)


def newest_weights() -> Path:
    """Return the weights of the newest run.

    Raises:
        HandcnnError: there is no run yet.
    """
    advice = f"train one first with: {train_command()}"
    return runs.newest_run(runs.OUTPUTS, runs.WEIGHTS, advice) / runs.WEIGHTS


def read_digit_reader(weights: Path) -> tuple[Network, dict[str, Any]]:
    """Return the network in a file and its metadata, if it can classify 28x28 pictures.

    Raises:
        HandcnnError: it cannot, or the file cannot be used.
    """
    net, metadata = read_weights(weights)
    if net.input_shape != INPUT_SHAPE:
        raise HandcnnError(
            f"{one_line(weights)} holds a network for inputs of shape {net.input_shape}; "
            f"pictures of digits need {INPUT_SHAPE}"
        )
    if not isinstance(net.layers[-1], OutputLayer):
        raise HandcnnError(
            f"{one_line(weights)} holds a network that gives no probabilities: its last layer is "
            f"{net.layers[-1]}, not an OutputLayer"
        )
    return net, metadata


def origin(metadata: dict[str, Any]) -> str:
    """Return the data set, epoch and accuracy recorded by train.py, or an empty string."""
    match metadata:
        case {"dataset": str(name), "epoch": int(epoch), "val_accuracy": float(accuracy)}:
            return one_line(f"{name}, epoch {epoch}, {100 * accuracy:.2f} % on validation")
    return ""


def class_names(net: Network, metadata: dict[str, Any]) -> list[str]:
    """Return the class names saved with the weights, or else the numbers of the classes."""
    output = net.layers[-1]
    assert isinstance(output, OutputLayer)  # read_digit_reader has checked
    count = output.output_size
    match metadata.get("classes"):
        case [*names] if len(names) == count and all(isinstance(name, str) for name in names):
            return [one_line(name) for name in names]
    return [str(number) for number in range(count)]
