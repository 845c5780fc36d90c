"""Draw a digit in the browser and watch the network read it.

    python draw.py                                      the newest run's weights
    python draw.py --weights outputs/RUN/weights.npz
    python draw.py --no-browser --port 8080             only serve the page, on this port

Only this computer can reach the page, or one that forwards a port to it with
`ssh -L 8080:localhost:2828`. Ctrl-C ends the program.
"""

import argparse
import signal
import sys
from functools import partial

try:
    from handcnn import use_threads
    from handcnn.commands import command_line as cli
    from handcnn.commands.weights import picture_network
    from handcnn.page import browser, server, view
except ModuleNotFoundError as error:
    sys.exit(f"draw.py: {error.name} is not installed in this Python; use make, or see README.md")
except KeyboardInterrupt:
    sys.exit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    return cli.run("draw.py", lambda: draw(parse_options(arguments)))


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed options."""
    parser = cli.Parser(prog="draw.py", description=__doc__)
    parser.add_argument(
        "--weights",
        type=cli.file,
        metavar="FILE",
        help="weights to use (default: those of the newest run)",
    )
    parser.add_argument(
        "--port",
        type=cli.whole_number(1, 65535),
        metavar="N",
        help=f"port of the page (default: {server.USUAL_PORT}, or a free one)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    return parser.parse(arguments)


def draw(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    saved = picture_network(options.weights)
    about = view.describe(saved.net, saved.class_names, saved.origin)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # One BLAS thread: several clients share the cores, and BLAS threads spin while they wait.
    with server.listen(options.port) as listener, use_threads(1):
        port = listener.getsockname()[1]
        address = f"http://{server.HOST}:{port}/"
        print(f"weights: {saved}")
        print(f"draw on: {address}   (Ctrl-C ends it)", flush=True)
        if not options.no_browser and not browser.open_page(address):
            print(browser.how_to_reach(port), flush=True)
        server.serve(listener, about, partial(view.read, saved.net, saved.class_names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
