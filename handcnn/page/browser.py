"""Open a page in a graphical browser: one of text would take over the terminal."""

import socket
import threading
import webbrowser
from pathlib import Path

from handcnn.page.server import HOST

TEXT_BROWSERS = {"www-browser", "links", "elinks", "lynx", "w3m"}  # as webbrowser knows them


def present(listener: socket.socket, line: str, *, opens: bool) -> str:
    """Print a line with the address of a page in place of {}, and open the page or say how.

    Args:
        listener: the socket of the page, from `server.listen`.
        line: what to print.
        opens: whether to open the page.

    Returns:
        The address.
    """
    port = listener.getsockname()[1]
    address = f"http://{HOST}:{port}/"
    print(line.format(address), flush=True)
    if opens and not open_page(address):
        print(how_to_reach(port), flush=True)
    return address


def open_page(address: str) -> bool:
    """Open a page without waiting for the browser; return False if there is no graphical one."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if Path(browser.name).name in TEXT_BROWSERS:
        return False
    threading.Thread(target=browser.open, args=(address,), daemon=True).start()
    return True


def how_to_reach(port: int) -> str:
    """Return what to do where `open_page` found no browser."""
    return (
        "no graphical browser here: open the address in one; on another computer, forward the "
        f"port first: ssh -L {port}:localhost:{port} THIS_COMPUTER"
    )
