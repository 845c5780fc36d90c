"""The weights file with which a command reads pictures: the one that was given, or the newest."""

from pathlib import Path

from handcnn.commands.hints import train_command
from handcnn.errors import HandcnnError
from handcnn.storage import runs
from handcnn.storage.classifiers import SavedNetwork, read_saved_network
from handcnn.text import one_line

IMAGE_SHAPE = (1, 28, 28)  # (C, H, W) of a prepared picture


def picture_network(path: Path | None) -> SavedNetwork:
    """Return the network in a weights file, by default that of the newest run.

    Raises:
        HandcnnError: there is no run yet, the file cannot be used, or its network is not for
            pictures of 28x28.
    """
    if path is None:
        advice = f"train one first with: {train_command()}"
        path = runs.newest_run(runs.OUTPUTS, runs.WEIGHTS, advice) / runs.WEIGHTS
    saved = read_saved_network(path)
    if saved.image_shape != IMAGE_SHAPE:
        raise HandcnnError(
            f"{one_line(path)} cannot be used: its network takes images of shape "
            f"{saved.image_shape}; prepared pictures have {IMAGE_SHAPE}"
        )
    return saved
