"""Draw a digit or a number in the browser and watch the network read it.

    PROGRAM                                      the newest run's weights, or handcnn's own
    PROGRAM --weights outputs/RUN/weights.npz
    PROGRAM --no-browser --port 8080             only serve the page, on this port

Only this computer can reach the page, or one that forwards a port to it with
`ssh -L 8080:localhost:2828`. Ctrl-C ends the program.
"""

import argparse
from functools import partial
from typing import NoReturn

from handcnn.commands import command_line as cli
from handcnn.commands.weights import add_weights_option, picture_network
from handcnn.kernels.threads import use_threads
from handcnn.page import browser, server, view


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
    return parser.parse(arguments)


def draw(options: argparse.Namespace) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM."""
    saved = picture_network(options.weights)
    net, classes = saved.net, saved.class_names
    about = view.describe(net, classes, saved.origin)
    # One BLAS thread: several clients share the cores, and BLAS threads spin while they wait.
    with server.listen(options.port) as listener, use_threads(1):
        port = listener.getsockname()[1]
        address = f"http://{server.HOST}:{port}/"
        print(f"weights: {saved}")
        print(f"draw on: {address}   (Ctrl-C ends it)", flush=True)
        if not options.no_browser and not browser.open_page(address):
            print(browser.how_to_reach(port), flush=True)
        server.serve(
            listener,
            values={"/network": about},
            actions={
                "/read": partial(view.read, net, classes, saved.preparation),
                "/explain": partial(view.explain_bytes, net),
            },
        )
    raise KeyboardInterrupt  # with which the server ends, but which it catches
