"""Draw a digit or a number in the browser and watch the network read it.

    PROGRAM                                      the newest run's weights, or handcnn's own
    PROGRAM --weights outputs/RUN/weights.npz
    PROGRAM --no-browser --port 8080             only serve the page, on this port
    PROGRAM --collect my-digits                  keep labelled drawings there, to train on them

Only this computer can reach the page, or one that forwards a port to it with
`ssh -L 8080:localhost:2828`. Ctrl-C ends the program.
"""

import argparse
from functools import partial
from typing import NoReturn

from handcnn.commands import command_line as cli
from handcnn.commands.hints import fine_tune_command
from handcnn.commands.weights import add_weights_option, picture_network
from handcnn.kernels.threads import use_threads
from handcnn.page import browser, server, view
from handcnn.page.collection import Collection
from handcnn.storage import runs
from handcnn.storage.classifiers import SavedNetwork
from handcnn.storage.mistakes import Mistakes, read_mistakes


def main(arguments: list[str] | None = None, program: str = "draw.py") -> int:
    """Run the program and return its exit code."""
    return cli.run(program, lambda: draw(parse_options(arguments, program)))


def parse_options(arguments: list[str] | None, program: str) -> argparse.Namespace:
    """Return the parsed options."""
    parser = cli.Parser(prog=program, description=__doc__)
    add_weights_option(parser)
    parser.add_argument(
        "--port",
        type=cli.whole_number(1, 65535),
        metavar="N",
        help=f"port of the page (default: {server.USUAL_PORT}, or a free one)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.add_argument(
        "--collect",
        type=cli.folder,
        metavar="FOLDER",
        help="offer to keep drawings, with their labels, in this folder",
    )
    return parser.parse(arguments)


def draw(options: argparse.Namespace) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM."""
    saved = picture_network(options.weights)
    net, classes = saved.net, saved.class_names
    mistakes = mistakes_of(saved)
    about = view.describe(net, classes, saved.origin)
    about |= {"collects": bool(options.collect), "hasMistakes": bool(mistakes)}
    routes = {
        "/network": server.Route("GET", lambda query: about),
        "/read": server.Route("POST", partial(view.read, net, classes, saved.preparation)),
        "/explain": server.Route("POST", partial(view.explain_bytes, net)),
    }
    if mistakes:
        shown = view.show_mistakes(mistakes)
        routes["/mistakes"] = server.Route("GET", lambda query: shown)
    if options.collect:
        command = fine_tune_command(saved.path, options.collect)
        collection = Collection(options.collect.resolve(), classes, command)
        routes["/kept"] = server.Route("POST", collection.state)
        routes["/unkeep"] = server.Route("POST", collection.undo)
        for k in range(len(classes)):
            routes[f"/keep/{k}"] = server.Route("POST", partial(collection.keep, k))
    # One BLAS thread: several clients share the cores, and BLAS threads spin while they wait.
    with server.listen(options.port) as listener, use_threads(1):
        print(f"weights: {saved}")
        opens = not options.no_browser
        browser.present(listener, "draw on: {}   (Ctrl-C ends it)", opens=opens)
        server.serve(listener, "draw.html", routes)
    raise KeyboardInterrupt  # with which the server ends, but which it catches


def mistakes_of(saved: SavedNetwork) -> Mistakes | None:
    """Return the worst mistakes of a finished run; None for other weights, or if there are none.

    Raises:
        HandcnnError: they cannot be read.
    """
    path = saved.path.with_name(runs.MISTAKES)
    if saved.path.name != runs.WEIGHTS or not path.exists():
        return None
    mistakes = read_mistakes(path, len(saved.class_names))
    is_usable = len(mistakes.images) and mistakes.images.shape[1:] == saved.image_shape[1:]
    return mistakes if is_usable else None
