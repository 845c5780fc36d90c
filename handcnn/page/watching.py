"""The link between the training loop and the server of the page that shows the training.

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
from math import ceil
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from handcnn.errors import HandcnnError
from handcnn.network import Network
from handcnn.page.server import Route
from handcnn.page.single_step import SingleStep
from handcnn.page.training_view import (
    Scene,
    curves,
    describe,
    sampled,
    short_history,
    show,
    sizes_of,
    snapshot,
)
from handcnn.page.view import remark_about, show_digit
from handcnn.pictures import load_picture, read_picture, to_batch
from handcnn.training import Step, copies
from handcnn.types import Array

SHARE = 0.02  # of the training's time, at most, for snapshots
SNAPSHOT_SECONDS = 0.5  # between two snapshots, at least
LOOKING_SECONDS = 3  # after a request, a page is taken to be still there
PAUSE_SECONDS = 0.05  # between two looks for a signal while paused
COPY_SECONDS = 20  # that a drawing waits for the training to copy the network
MAX_DRAWINGS = 2  # that wait at once
RECENT_IMAGES = 2000  # whose answers are counted in the confusion matrix


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
        self.about = describe(net, scene)
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
        self.room = threading.BoundedSemaphore(MAX_DRAWINGS)
        # What was copied: written between two steps, read by the server's threads.
        self.is_paused = False
        self.single: SingleStep | None = None
        self.result: dict[str, Any] | None = None
        self.final: Network | None = None
        # Of the network before the next step, if that is to be looked at: some of the weights, and
        # all parameters if it is a single step.
        self.weights: dict[int, Array] | None = None
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
        """Copy some weights, to show what the next step changes; for a single step, all of them."""
        self.weights = sampled(self.net)
        if single:
            self.before = copies(self.net.parameters())

    def see_step(self, step: Step) -> None:
        """Look at the network after a step; wait while the page has paused the training."""
        now = time.perf_counter()
        taken = now - self.resumed_at
        if step.number > 1:  # before the first one of an epoch, there may have been a validation
            self.pace = taken if self.pace == 0 else 0.95 * self.pace + 0.05 * taken
        self.recent.append((step.y, step.y_pred))
        if self.weights is not None:
            if self.before is not None:
                self.single = None  # its memory is needed for the next one
                self.single = SingleStep(self.number + 1, self.net, self.before, step)
            self._take_snapshot(step, self.weights)
            self._count(step)
            self.weights = self.before = None
            if self.wants_pause:
                self._hold()
        else:
            self._count(step)
            if self.wants_pause or (self._is_watched() and now > self.next_snapshot):
                self.look_at_next()
        self._serve_drawing()
        self.resumed_at = time.perf_counter()

    def _count(self, step: Step) -> None:
        """Count a step, after all that the page shows of it has been made."""
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

    def _take_snapshot(self, step: Step, before: Mapping[int, Array]) -> None:
        start = time.perf_counter()
        changes = sizes_of(before, sampled(self.net), step.learning_rate)
        self.snapshot = self._snapshot(self.number + 1, changes)
        end = time.perf_counter()
        self.next_snapshot = end + max(SNAPSHOT_SECONDS, (end - start) / SHARE)

    def _snapshot(self, number: int, sizes: list[dict[str, float]]) -> dict[str, Any]:
        """Return what the page shows of the network, after so many steps."""
        return {"number": number, **snapshot(self.net, self.scene, self.x, self.recent, sizes)}

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
        newest, single = self.snapshot, self.single
        has_number, has_snapshot = (_whole(query, name, -1) for name in ("number", "snapshot"))
        image = min(_whole(query, "image", 0), len(self.scene.images) - 1)
        has_it = has_snapshot == newest["number"]
        return {
            "run": self.scene.about["run"],
            "number": number,
            "epoch": self.scene.done + (number > 0) if step is None else step.epoch,
            "loss": None if step is None else round(step.loss, 4),
            "pace": self.pace and len(step.x if step else ()) / self.pace,
            "left": self.pace * (self.scene.epochs * self.scene.steps - number),
            "paused": is_paused,
            "phase": self._phase(is_paused),
            "history": short_history(self.history),
            "curves": None if has_number == number else self._curves(),
            "snapshot": None if has_it else show(newest, self.x[image : image + 1]),
            "single": None if single is None else single.number,
            "result": self.result,
        }

    def _phase(self, is_paused: bool) -> str:
        if not is_paused:
            return "pausing" if self.wants_pause else "training"
        if not self.wants_pause:
            return "going on"
        return "stepping" if self.before or self.allowed_steps else "paused"

    def _curves(self) -> dict[str, Any]:
        # tobytes() copies in one go, while no other thread runs. An accuracy comes before its loss.
        losses = np.frombuffer(self.losses.tobytes(), np.float32)
        accuracies = np.frombuffer(self.accuracies.tobytes(), np.float32)
        return curves(losses, accuracies[: len(losses)], self.missing)

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
                reading = read_picture(net, picture, self.scene.class_names, self.scene.preparation)
        except NoAnswer:
            raise HandcnnError("the network is busy; try again") from None
        finally:
            self.room.release()
        shown = {"text": reading.text, "remark": remark_about(reading), "number": number}
        return show_digit(reading.digits[-1]) | shown

    def _copy_of_network(self) -> Network:
        if self.final is not None:
            return self.final
        future: Future[Network] = Future()
        self.drawings.put(future)
        return future.result(COPY_SECONDS)

    def _pause(self, wants_pause: bool) -> None:
        self.wants_pause, self.allowed_steps = wants_pause, 0

    def _allow_step(self) -> None:
        if self.wants_pause:
            self.allowed_steps += 1

    def _stop(self) -> None:
        if self.result is None:  # later, there is nothing left to stop
            self.stop()


def _whole(query: bytes, name: str, default: int) -> int:
    """Return a number of at most nine digits from a query, or the default without one."""
    text = parse_qs(query.decode("latin-1")).get(name, [""])[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
