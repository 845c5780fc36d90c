"""A training as the page shows it: the listener between the training loop and the server.

`Watch.see_step` is called after every step, in the thread that trains. It keeps the loss, and
seldom takes a snapshot: copies of the few things that the page shows of the network. The server's
threads read only what was copied. So nothing that they do can change the training, and a training
that nobody looks at costs nothing.

A snapshot takes a few milliseconds. The next one waits until these are 2 % of the time.
"""

import io
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import suppress
from math import ceil, isfinite
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.layers import Layer, ParameterLayer
from handcnn.layers.sequence import copied, first_convolution, forward
from handcnn.network import Network
from handcnn.page.encoding import base64_text, levels
from handcnn.page.server import Route
from handcnn.page.single_step import SingleStep
from handcnn.pictures import load_picture, prepare, probabilities, read_digits, to_batch
from handcnn.preparation import Preparation
from handcnn.text import are_digits, percent
from handcnn.training import Step, confusion_matrix, copies
from handcnn.types import Array

SHARE = 0.02  # of the training's time, at most, for snapshots
SNAPSHOT_SECONDS = 0.5  # between two snapshots, at least
LOOKING_SECONDS = 3  # after a request, a page is taken to be still there
PAUSE_SECONDS = 0.05  # between two looks for a signal while paused
COPY_SECONDS = 20  # that a drawing waits for the training to copy the network
MOST_DRAWINGS = 2  # that wait at once
SAMPLE = 200_000  # weights of a layer whose size is taken for that of all
MOST_POINTS = 1000  # of a curve
RECENT_IMAGES = 2000  # whose answers are counted in the confusion matrix
SHOWN_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
MOST_CLASSES = 20  # of a confusion matrix that is legible


class Scene(NamedTuple):
    """What the page shows of the training as a whole, and what does not change.

    Attributes:
        epochs: of the whole training.
        steps: in an epoch.
        batch_size: images per step.
        past: the loss and accuracy of the steps taken before, (S, 2).
        done: the number of epochs trained before.
        images: fixed validation images, uint8 (n, H, W).
        labels: their classes.
        class_names: the name of each class.
        preparation: how the images were prepared.
        about: what the page shows at its top, as JSON values.
    """

    epochs: int
    steps: int
    batch_size: int
    past: Array
    done: int
    images: Array
    labels: Array
    class_names: Sequence[str]
    preparation: Preparation
    about: Mapping[str, Any]


class Watch:
    """One training that is watched.

    Args:
        net: the network in training; only `see_step` and what it calls read it.
        scene: what does not change.
        history: the rows of the history; the training appends to it.
        check: raises an exception if the training is to stop.
        stop: asks the training to stop, as Ctrl-C does.
    """

    def __init__(
        self,
        net: Network,
        scene: Scene,
        history: Sequence[Mapping[str, float]],
        check: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self.net, self.scene, self.history = net, scene, history
        self.about = _about(net, scene)
        self.check, self.stop = check, stop
        self.x = to_batch(list(scene.images))
        self.losses, self.accuracies = (array("f", column) for column in scene.past.T)
        self.missing = scene.done * scene.steps - len(scene.past)  # steps of an older version
        self.step: Step | None = None
        self.pace = 0.0  # seconds for a step, without pauses
        self.resumed_at = time.perf_counter()
        self.recent = deque[tuple[Array, Array]](maxlen=ceil(RECENT_IMAGES / scene.batch_size))
        # Control: written by the server's threads, read between two steps.
        self.wants_pause = False
        self.allowed_steps = 0
        self.asked_at = -float("inf")
        self.drawings: SimpleQueue[Future[Network]] = SimpleQueue()  # each waits for a copy
        self.room = threading.BoundedSemaphore(MOST_DRAWINGS)
        # What was copied: written between two steps, read by the server's threads.
        self.is_paused = False
        self.single: SingleStep | None = None
        self.result: dict[str, Any] | None = None
        self.final: Network | None = None
        # Of the network before the next step, if that is to be looked at: some of the weights, and
        # all parameters if it is a single step.
        self.sampled: dict[int, Array] | None = None
        self.before: dict[str, Array] | None = None
        self.next_snapshot = 0.0
        self.snapshot = self._snapshot(self.number, [])

    # In the thread that trains ------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The number of steps taken in the whole run."""
        return self.missing + len(self.losses)

    def pause_first(self) -> None:
        """Pause after the first step, which is shown as a single one."""
        self.wants_pause = True
        self.look_at_next(single=True)

    def look_at_next(self, *, single: bool = False) -> None:
        """Copy what is needed to show the next step; for a single one, all parameters."""
        self.sampled = _sampled(self.net)
        if single:
            self.before = copies(self.net.parameters())

    def see_step(self, step: Step) -> None:
        """Look at the network after a step; wait while the page has paused the training."""
        now = time.perf_counter()
        taken = now - self.resumed_at
        if step.number > 1:  # before the first one of an epoch, there may have been a validation
            self.pace = taken if self.pace == 0 else 0.95 * self.pace + 0.05 * taken
        self.recent.append((step.y, step.y_pred))
        if self.sampled is not None:
            if self.before is not None:
                self.single = None  # its memory is needed for the next one
                self.single = SingleStep(self.number + 1, self.net, self.before, step)
            self._take_snapshot(step, self.sampled)
            self._count(step)
            self.sampled = self.before = None
            if self.wants_pause:
                self._hold()
        else:
            self._count(step)
            if self.wants_pause or (self._is_watched() and now > self.next_snapshot):
                self.look_at_next()
        self._serve_drawing()
        self.resumed_at = time.perf_counter()

    def _count(self, step: Step) -> None:
        """Count a step. What the page shows of it is ready."""
        self.step = step
        self.accuracies.append(step.correct / len(step.x))
        self.losses.append(step.loss)

    def see_end(self, net: Network, result: dict[str, Any]) -> None:
        """Show the result of the finished training; from now on, `net` answers drawings."""
        self.net = self.final = net
        while not self.drawings.empty():
            self._serve_drawing()
        self.snapshot = self._snapshot(self.number, self.snapshot["changes"])
        self.result = result

    def _is_watched(self) -> bool:
        return time.monotonic() - self.asked_at < LOOKING_SECONDS

    def _hold(self) -> None:
        """Wait until the page goes on or asks for a single step."""
        self.is_paused = True
        while self.wants_pause and self.allowed_steps < 1:
            self.check()
            self._serve_drawing(PAUSE_SECONDS)
        if self.wants_pause:
            self.allowed_steps = max(self.allowed_steps - 1, 0)
            self.look_at_next(single=True)
        self.is_paused = self.wants_pause

    def _serve_drawing(self, wait: float = 0) -> None:
        """Copy the network for a drawing if there is one, or comes within `wait` seconds."""
        if wait or not self.drawings.empty():
            with suppress(Empty):
                future = self.drawings.get(wait > 0, wait)
                future.set_result(self.net.with_parameters(copies(self.net.parameters())))

    def _take_snapshot(self, step: Step, sampled: Mapping[int, Array]) -> None:
        start = time.perf_counter()
        changes = _changes(sampled, _sampled(self.net), step.learning_rate)
        self.snapshot = self._snapshot(self.number + 1, changes)
        end = time.perf_counter()
        self.next_snapshot = end + max(SNAPSHOT_SECONDS, (end - start) / SHARE)

    def _snapshot(self, number: int, changes: list[dict[str, float]]) -> dict[str, Any]:
        """Return what the page shows of the network, after so many steps."""
        y_pred = np.nan_to_num(self.net.predict_proba(self.x))
        first = first_convolution(self.net.layers)
        return {
            "number": number,
            "answers": y_pred.argmax(axis=1).tolist(),
            "right": np.round(y_pred[np.arange(len(y_pred)), self.scene.labels], 4).tolist(),
            "front": [] if first is None else _frozen(self.net.layers[: first + 1]),
            "confusion": self._confusion(),
            "changes": changes,
        }

    def _confusion(self) -> list[list[int]]:
        if not self.recent:
            return []
        pairs = zip(*self.recent, strict=True)
        y, y_pred = (np.concatenate(arrays).argmax(axis=1) for arrays in pairs)
        counts = confusion_matrix(y, y_pred, len(self.scene.class_names))
        return [[int(count) for count in row] for row in counts]

    # In the server's threads --------------------------------------------------------------------

    def routes(self) -> dict[str, Route]:
        """Return what the page may ask for."""
        return {
            "/training": Route("GET", lambda query: self.about),
            "/state": Route("GET", self.state),
            "/single-step": Route("GET", self.single_step),
            "/read": Route("POST", self.read),
            "/pause": Route("POST", lambda body: self._pause(True)),
            "/go-on": Route("POST", lambda body: self._pause(False)),
            "/one-step": Route("POST", lambda body: self._allow_step()),
            "/stop": Route("POST", lambda body: self._stop()),
        }

    def state(self, query: bytes) -> dict[str, Any]:
        """Return the newest figures, and what the page does not have yet.

        Args:
            query: `number` and `snapshot`, the steps that the page shows, and `image`, the sample
                whose maps it shows.
        """
        self.asked_at = time.monotonic()
        # In this order: if it is paused, the number is final; what belongs to the number is there.
        is_paused, step, number = self.is_paused, self.step, self.number
        snapshot, single = self.snapshot, self.single
        has_number, has_snapshot = (_whole(query, name, -1) for name in ("number", "snapshot"))
        image = min(_whole(query, "image", 0), len(self.scene.images) - 1)
        has_it = has_snapshot == snapshot["number"]
        return {
            "run": self.scene.about["run"],
            "number": number,
            "epoch": self.scene.done + (number > 0) if step is None else step.epoch,
            "loss": None if step is None else round(step.loss, 4),
            "pace": self.pace and len(step.x if step else ()) / self.pace,
            "left": self.pace * (self.scene.epochs * self.scene.steps - number),
            "paused": is_paused,
            "phase": self._phase(is_paused),
            "history": self._short_history(),
            "curves": None if has_number == number else self.curves(),
            "snapshot": None if has_it else self._shown(snapshot, image),
            "single": None if single is None else single.number,
            "result": self.result,
        }

    def _phase(self, is_paused: bool) -> str:
        if not is_paused:
            return "pausing" if self.wants_pause else "training"
        if not self.wants_pause:
            return "going on"
        return "stepping" if self.before or self.allowed_steps else "paused"

    def _short_history(self) -> list[list[float]]:
        rows = [*self.history]
        shown = rows[:: ceil(len(rows) / MOST_POINTS) or 1]
        if rows and shown[-1] is not rows[-1]:
            shown.append(rows[-1])
        return [[row[name] for name in SHOWN_COLUMNS] for row in shown]

    def curves(self) -> dict[str, Any]:
        """Return the loss and accuracy of every step, as at most MOST_POINTS points.

        Each point stands for `stride` steps: their smallest, mean and largest loss, and their mean
        accuracy.
        """
        # tobytes() copies in one go, while no other thread runs.
        accuracies = np.frombuffer(self.accuracies.tobytes(), np.float32)
        losses = np.frombuffer(self.losses.tobytes(), np.float32)
        accuracies = accuracies[: len(losses)]
        stride = max(1, ceil(len(losses) / MOST_POINTS))
        starts = np.arange(0, len(losses), stride)
        counts = np.diff([*starts, len(losses)])
        if not len(losses):
            return {"stride": 1, "first": self.missing, "losses": "", "accuracies": ""}
        mean = np.add.reduceat(losses, starts) / counts
        low, high = (reduce.reduceat(losses, starts) for reduce in (np.minimum, np.maximum))
        accuracy = np.add.reduceat(accuracies, starts) / counts
        return {
            "stride": stride,
            "first": self.missing,
            "count": len(losses),
            "losses": base64_text(np.array([low, mean, high], np.float32)),
            "accuracies": base64_text(accuracy.astype(np.float32)),
        }

    def _shown(self, snapshot: dict[str, Any], image: int) -> dict[str, Any]:
        """Return a snapshot as JSON values, with the maps of one sample."""
        front: list[Layer] = snapshot["front"]
        shown = {name: value for name, value in snapshot.items() if name != "front"}
        if front:
            with np.errstate(all="ignore"):  # a training may diverge
                maps = forward(copied(front), self.x[image : image + 1])[0]
                kernels = front[-1].parameters()["weights"].mean(axis=1)
                shown["kernels"] = base64_text(levels(kernels))
                shown["maps"] = base64_text(levels(maps, axis=(1, 2)))
            shown["sizes"] = [*kernels.shape, *maps.shape[1:]]
        if len(self.scene.class_names) > MOST_CLASSES:
            shown["confusion"] = []
        return shown

    def single_step(self, query: bytes) -> dict[str, Any]:
        """Return the last single step: its batch, and the weights that the query names."""
        single = self.single
        if single is None:
            raise HandcnnError("no single step was taken yet; pause, then take one step")
        layer = _whole(query, "layer", -1)
        if layer not in single.layers:
            raise HandcnnError("there is no such layer; use one with weights")
        unit = _whole(query, "unit", -1)
        units = len(single.after[f"layer{layer}.bias"].ravel())
        weights = single.weights(layer, unit if 0 <= unit < units else None)
        return {**single.batch, "weights": weights}

    def read(self, content: bytes) -> dict[str, Any]:
        """Return what the network, as it is now, reads in a picture file.

        Several digits are read as a number, whose last digit has its probabilities shown.

        Raises:
            HandcnnError: it is not a picture, or the network is busy.
        """
        picture = load_picture(io.BytesIO(content), "the picture")
        if not self.room.acquire(blocking=False):
            raise HandcnnError("the network is busy with other drawings; try again")
        try:
            number, net = self.number, self._copy_of_network()
            with np.errstate(all="ignore"):  # a training may diverge
                text, row, doubt = self._reading(net, picture)
        except NoAnswer:
            raise HandcnnError("the network is busy; try again") from None
        finally:
            self.room.release()
        return {
            "text": text,
            "answer": int(row.argmax()),
            "probabilities": [round(float(p), 6) for p in row],
            "percents": [percent(p) for p in row],
            "remark": doubt,
            "number": number,
        }

    def _copy_of_network(self) -> Network:
        if self.final is not None:
            return self.final
        future: Future[Network] = Future()
        self.drawings.put(future)
        return future.result(COPY_SECONDS)

    def _reading(self, net: Network, picture: Array) -> tuple[str, Array, str]:
        """Return the text, the probabilities of its last digit, and a doubt or an empty text."""
        names = self.scene.class_names
        if are_digits(names):
            reading = read_digits(net, picture)
            return reading.text, reading.digits[-1].probabilities, reading.doubt
        image, _, doubt = prepare(picture, self.scene.preparation)
        row = probabilities(net, [image])[0]
        return names[row.argmax()], row, doubt

    def _pause(self, wants_pause: bool) -> None:
        self.wants_pause, self.allowed_steps = wants_pause, 0

    def _allow_step(self) -> None:
        if self.wants_pause:
            self.allowed_steps += 1

    def _stop(self) -> None:
        if self.result is None:  # later, there is nothing left to stop
            self.stop()


def _about(net: Network, scene: Scene) -> dict[str, Any]:
    """Return what the page shows that does not change during the training."""
    layers = [
        {
            "index": i,
            "title": str(layer).replace("->", "\N{RIGHTWARDS ARROW}"),
            "kind": type(layer).__name__,
            "units": shape[0],
        }
        for i, (layer, shape) in enumerate(zip(net.layers, net.output_shapes(), strict=True))
        if isinstance(layer, ParameterLayer) and shape
    ]
    return {
        **scene.about,
        "classes": scene.class_names,
        "epochs": scene.epochs,
        "steps": scene.steps,
        "images": base64_text(scene.images),
        "labels": scene.labels.tolist(),
        "layers": layers,
    }


def _frozen(layers: Sequence[Layer]) -> list[Layer]:
    """Return copies of layers whose parameters are copies, too."""
    frozen = copied(layers)
    for layer in frozen:
        for name, parameter in layer.parameters().items():
            setattr(layer, name, parameter.copy())
    return frozen


def _sampled(net: Network) -> dict[int, Array]:
    """Return copies of the weights of each layer, by index; of very many, evenly chosen rows."""
    weights = {
        i: layer.parameters()["weights"]
        for i, layer in enumerate(net.layers)
        if isinstance(layer, ParameterLayer)
    }
    return {i: array[:: ceil(array.size / SAMPLE)].copy() for i, array in weights.items()}


def _changes(
    before: Mapping[int, Array], after: Mapping[int, Array], rate: float
) -> list[dict[str, float]]:
    """Return how large the weights, their gradient and their update are in each layer.

    The update is what the step really subtracted, and the gradient follows from it.
    """
    updates = [_size(before[i] - weights) for i, weights in after.items()]
    return [
        {"weights": _size(weights), "gradient": update / rate, "update": update}
        for weights, update in zip(after.values(), updates, strict=True)
    ]


def _size(values: Array) -> float:
    """Return the root mean square; 0 if it is too large to compute."""
    flat = values.ravel()
    size = float(np.sqrt(np.dot(flat, flat) / flat.size))
    return size if isfinite(size) else 0.0


def _whole(query: bytes, name: str, default: int) -> int:
    """Return a whole number from a query, or a default if it is not one of at most nine digits."""
    text = parse_qs(query.decode("latin-1")).get(name, [""])[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
