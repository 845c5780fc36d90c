"""`--watch`: a page in the browser that shows the training while it runs, and its result.

The page is served in threads of its own. What it shows and how it can pause the training is in
`handcnn.page.watching`; here it is opened and closed, and gets the data of a session.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.console import plural
from app.interrupts import Interrupts
from app.options import Request
from app.report import PLOTS, network_and_options
from app.session import Session
from handcnn.commands.hints import PROJECT, resume_command
from handcnn.text import escaped, exact_percent, one_line
from handcnn.training import Step
from handcnn.types import Array

SAMPLES = 30  # validation images whose answers are shown
DERIVATION = PROJECT / "docs" / "backprop.md"


class NotWatched:
    """A training without a page."""

    def start(self, session: Session) -> Callable[[Step], None]:
        """Return what to call after each step."""
        return lambda step: None

    def show_result(self, accuracy: float) -> None:
        """Do nothing with the test accuracy."""

    def wait(self) -> None:
        """Return at once."""


class Watched(NotWatched):
    """A training with a page.

    Args:
        request: the command line.
        interrupts: of the program.
        listener: the socket of the page, from `page.server.listen`.
        stack: closes the page when the program ends.
    """

    def __init__(
        self, request: Request, interrupts: Interrupts, listener: Any, stack: ExitStack
    ) -> None:
        self.request, self.interrupts = request, interrupts
        self.listener, self.stack = listener, stack
        self.watch: Any = None

    def start(self, session: Session) -> Callable[[Step], None]:
        """Serve the page, print its address and open it; return what to call after each step."""
        from handcnn.page import browser, server
        from handcnn.page.watching import Watch

        self.session = session
        self.watch = Watch(
            session.state.net,
            scene(session),
            session.state.history,
            self.interrupts.check,
            self.interrupts.stop,
        )
        if self.request.paused:
            self.watch.pause_first()
        routes = self.watch.routes() | plots_of(session.folder)
        if DERIVATION.is_file():
            derivation = DERIVATION.read_bytes()
            routes["/backprop.md"] = server.Route("GET", lambda query: derivation)
        self.stack.enter_context(server.serving(self.listener, "watch.html", routes))
        line, opens = "watch    {}   (Ctrl-C stops the training)", not self.request.no_browser
        self.address = browser.present(self.listener, line, opens=opens)
        listen: Callable[[Step], None] = self.watch.see_step
        return listen

    def show_result(self, accuracy: float) -> None:
        """Show the test accuracy and the plots of the run on the page."""
        state, test = self.session.state, self.session.dataset.record["sizes"]["test"]
        row = self.session.best_row
        right = round(accuracy * test)
        result = {
            "test": exact_percent(accuracy),
            "images": f"{right:,} of {test:,} test images",
            "best": f"{plural(len(state.history), 'epoch')}; best epoch {row['epoch']}, "
            f"{exact_percent(row['val_accuracy'])} on validation",
            "plots": PLOTS,
        }
        self.interrupts.finish()  # once the page shows the end, Ctrl-C only closes it
        self.watch.see_end(state.net.with_parameters(state.best), result)

    def wait(self) -> None:
        """Keep the page open until Ctrl-C or SIGTERM."""
        if self.watch is not None:
            print(f"\nthe page stays at {self.address} until Ctrl-C", flush=True)
            self.interrupts.wait()


@contextmanager
def watching(request: Request, interrupts: Interrupts) -> Iterator[NotWatched]:
    """Yield what shows the training, with a page if that was asked for.

    Raises:
        ModuleNotFoundError: the server's library is not installed.
        HandcnnError: the port cannot be used.
    """
    if not request.watch:
        yield NotWatched()
        return
    from handcnn.page import server

    with ExitStack() as stack:
        listener = stack.enter_context(server.listen(request.port))
        yield Watched(request, interrupts, listener, stack)


def scene(session: Session) -> Any:
    """Return what the page shows that does not change."""
    from handcnn.page.training_view import Scene

    dataset, options, state = session.dataset, session.options, session.state
    part, images = dataset.validation, dataset.record["sizes"]["train"]
    chosen = samples(part.labels, len(dataset.class_names))
    parameters = sum(array.size for array in state.net.parameters().values())
    return Scene(
        epochs=options.epochs,
        steps=session.steps,
        batch_size=options.batch_size,
        past=state.steps,
        done=len(state.history),
        images=part.images[chosen],
        labels=part.labels[chosen],
        class_names=dataset.class_names,
        preparation=dataset.preparation,
        about={
            "run": session.folder.name,
            "network": f"{network_and_options(options, images)}: {parameters:,} weights",
            "data": f"{dataset.title}, {images:,} training images",
            "resume": escaped(resume_command(session.folder)),
            "folder": one_line(session.folder),
        },
    )


def samples(labels: Array, classes: int) -> Array:
    """Return the indices of SAMPLES images, as equally many of each class as possible."""
    rank = np.zeros(len(labels), int)  # of each image within its class
    for k in range(classes):
        of_class = labels == k
        rank[of_class] = np.arange(of_class.sum())
    chosen = np.lexsort((labels, rank))[:SAMPLES]
    return chosen[np.argsort(labels[chosen], kind="stable")]


def plots_of(folder: Path) -> dict[str, Any]:
    """Return the routes to the plots of a run, which are written at its end."""
    from handcnn.errors import HandcnnError
    from handcnn.page.server import Route

    def read(path: Path, query: bytes) -> bytes:
        if not path.is_file():
            raise HandcnnError(f"{path.name} is drawn at the end of the training")
        return path.read_bytes()

    return {f"/{name}": Route("GET", partial(read, folder / name)) for name in PLOTS}
