"""A page that watches a training, as far as the training can tell: requests without a browser.

A visit is a thread of the process that trains. `before_training` makes the training wait until the
page is there, so that what it does happens at the same steps in every run.
"""

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

SEVEN = Path(__file__).parents[1] / "docs" / "seven.jpg"
SECONDS = 20  # after which a visit has failed
FAILED = 98  # the exit code then


class Page:
    """An open page: it asks for news and presses buttons."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: bytes = b"") -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(content.decode())
        is_json = response.headers["Content-Type"] == "application/json"
        return json.loads(content) if is_json else content

    def until_it_is_there(self) -> None:
        while True:
            with suppress(OSError):
                self.get("/")
                return
            time.sleep(0.01)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def post(self, path: str, body: bytes = b"") -> Any:
        return self.ask("POST", path, body)

    def until(self, is_so: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
        """Ask for news until something is so; return them."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            state: dict[str, Any] = self.get("/state")
            if is_so(state):
                return state
            time.sleep(0.01)
        raise AssertionError(state)


arrived = threading.Event()


def visit(port: int, act: Callable[[Page], None]) -> None:
    """Let a page act, in a thread; then, when the training is over, press Ctrl-C."""

    def run() -> None:
        page = Page(port)
        try:
            page.until_it_is_there()
            act(page)
            arrived.set()
            page.until(lambda state: state["result"])
            os.kill(os.getpid(), signal.SIGINT)
        except (OSError, HTTPException):  # the training was stopped
            return
        except BaseException:
            traceback.print_exc()
            os._exit(FAILED)

    threading.Thread(target=run, daemon=True).start()


def wait_for_page() -> None:
    """Keep the training from its first step until the page has come."""
    assert arrived.wait(SECONDS)


def pause(page: Page) -> None:
    page.post("/pause")
    arrived.set()
    page.until(lambda state: state["paused"])


def look_everywhere(page: Page) -> None:
    """Pause, take three steps, draw, look at everything, and go on."""
    pause(page)
    first = page.get("/state")["number"]
    for count in (1, 2, 3):
        page.post("/one-step")
        page.until(lambda state: state["number"] == first + count)  # noqa: B023 - called at once
        for layer in page.get("/training")["layers"]:
            page.get(f"/single-step?layer={layer['index']}&unit=1")
    page.post("/read", SEVEN.read_bytes())
    page.get("/state?image=3")
    page.post("/go-on")


def die_paused(page: Page) -> None:
    """Pause, take a step, and kill the training."""
    pause(page)
    page.post("/one-step")
    page.until(lambda state: state["single"])
    os.kill(os.getpid(), signal.SIGKILL)


def stop(page: Page) -> None:
    """Pause in the second epoch, and stop."""
    pause(page)
    page.post("/stop")
