"""Start a run from the weights of a saved network, in place of random ones: `--start-from`.

The new run has the layers of the saved network. Where the classes are others, the output layer
cannot be used and starts fresh.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from app.evaluation import EVALUATION_BATCH, evaluated
from data import Dataset
from handcnn.commands.weights import picture_network
from handcnn.errors import HandcnnError
from handcnn.kernels.threads import use_threads
from handcnn.models import NETWORKS, network_name
from handcnn.network import Network
from handcnn.storage.classifiers import SavedNetwork
from handcnn.text import one_line


def read_start(path: str, network: str | None) -> tuple[SavedNetwork, str]:
    """Return the saved network to start from, and the name of its layers in NETWORKS.

    Args:
        path: the weights file.
        network: the name that the user asked for; None takes that of the file.

    Raises:
        HandcnnError: the file cannot be used, or its layers or images are others.
    """
    saved = picture_network(Path(path))
    name = network_name(saved.net)
    if name is None:
        raise HandcnnError(
            f"{one_line(path)} cannot be trained further: its layers are not those of "
            f"{', '.join(NETWORKS)}; choose other weights"
        )
    if network not in (None, name):
        raise HandcnnError(
            f"{one_line(path)} holds the network {name}, not {network}; omit --network, or "
            "choose other weights"
        )
    return saved, name


def started(net: Network, saved: SavedNetwork, class_names: list[str]) -> Network:
    """Return `net` with the saved parameters, but with its own output layer for other classes."""
    own = net.parameters()
    taken = {name: array.astype(own[name].dtype) for name, array in saved.net.parameters().items()}
    if not has_classes(saved, class_names):
        output = f"layer{len(net.layers) - 1}."
        taken = {name: array for name, array in taken.items() if not name.startswith(output)}
    return net.with_parameters(own | taken)


def has_classes(saved: SavedNetwork, class_names: list[str]) -> bool:
    """Return whether a saved network tells these classes apart, in this order."""
    return saved.class_names == [one_line(name) for name in class_names]


def start_record(
    net: Network, saved: SavedNetwork, dataset: Dataset, threads: int
) -> dict[str, Any]:
    """Return where a run starts, as JSON values: the file, its hash and what it can do untouched.

    Raises:
        HandcnnError: its probabilities are not finite.
    """
    record = {
        "weights": str(saved.path),
        "sha256": sha256(saved.path.read_bytes()).hexdigest(),
        "title": str(saved),
    }
    if not has_classes(saved, dataset.class_names):
        return record | {"fresh_output_layer": True}
    with use_threads(threads):
        untouched = {
            part: evaluated(
                net,
                dataset.batches(part, EVALUATION_BATCH),
                saved.path,
                "start from other weights",
            )[0]._asdict()
            for part in ("validation", "test")
        }
    return record | {"fresh_output_layer": False, **untouched}


def checked_start(record: Any) -> dict[str, Any] | None:
    """Return what `start_record` returned, from a checkpoint.

    Raises:
        ValueError: it is something else.
    """
    match record:
        case None:
            return None
        case {"weights": str(), "sha256": str(), "title": str(), "fresh_output_layer": True}:
            return dict(record)
        case {
            "weights": str(),
            "sha256": str(),
            "title": str(),
            "fresh_output_layer": False,
            "validation": {"loss": float(), "accuracy": float()},
            "test": {"loss": float(), "accuracy": float()},
        }:
            return dict(record)
    raise ValueError("it does not say what the training started from")
