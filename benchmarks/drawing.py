"""The drawing page in a real browser: how many digits it reads, and how fast the bars respond.

    python -m benchmarks.drawing --weights outputs/RUN/weights.npz

A hundred recorded drawings (`strokes.json`: ten of each digit, of several shapes, sizes and places)
are drawn with the mouse, at about a hundred points per second. For each point, the page's own clock
measures the time from the mouse event to the first frame whose bars include that point. Needs
Chromium and Playwright.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Strokes = Sequence[Sequence[tuple[float, float]]]  # points in hundredths of a square

ROOT = Path(__file__).parents[1]
STROKES = Path(__file__).with_name("strokes.json")
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--no-sandbox",  # required for root
    "--disable-gpu",
    "--disable-background-networking",
)

# Records the time of each mouse move, and for each request the times when it was sent and when its
# answer was painted, in milliseconds of the page's clock.
CLOCK = """
window.moves = [];
window.answers = [];
addEventListener("pointermove", (event) => {
  if (event.buttons && event.target.id === "pad") moves.push(event.timeStamp);
}, true);
const ask = window.fetch;
window.fetch = (...request) => {
  if (request[0] === "read") answers.push({ asked: performance.now() });
  return ask(...request);
};
addEventListener("DOMContentLoaded", () => {
  const painted = (answer) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { answer.painted = performance.now(); };
    port2.postMessage(null);
  });
  new MutationObserver(() => {
    const answer = answers.at(-1);
    if (answer && !answer.shown) painted(answer, answer.shown = performance.now());
  }).observe(document.getElementById("bars"), { childList: true, subtree: true });
});
"""


def load_strokes() -> dict[str, list[Strokes]]:
    """Return ten recorded drawings of each digit."""
    drawings: dict[str, list[Strokes]] = json.loads(STROKES.read_text())
    return drawings


def find_browser() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_browser() -> "Iterator[Browser]":
    """Run headless Chromium without background network traffic."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def serve(
    weights: Path, *options: str, stderr: int | None = None
) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
    """Run draw.py; yield the address that it prints, and the process, which is ended afterwards."""
    command = [sys.executable, str(ROOT / "draw.py"), "--no-browser", "--weights", str(weights)]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        try:
            yield lines[1].split()[2], process
        finally:
            process.terminate()


def draw(page: "Page", strokes: Strokes, pause: float = 0) -> None:
    """Draw with the mouse, on the largest square in the middle of the pad.

    Args:
        page: the open page.
        strokes: the drawing.
        pause: after each point, in milliseconds.
    """
    box = page.locator("#pad").bounding_box()
    assert box is not None
    side = min(box["width"], box["height"])
    left = box["x"] + (box["width"] - side) / 2
    top = box["y"] + (box["height"] - side) / 2
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(left + x / 100 * side, top + y / 100 * side)
            if i == 0:
                page.mouse.down()
            if pause:
                page.wait_for_timeout(pause)
        page.mouse.up()


def settle(page: "Page") -> str:
    """Wait until the page shows the answer for the whole drawing; return the answer."""
    page.wait_for_selector("#verdict[aria-busy=false]")
    return page.locator("#answer").inner_text()


def latencies(page: "Page") -> list[float]:
    """Return the milliseconds from each mouse move to the frame with its bars."""
    moves, answers = page.evaluate("[moves, answers.filter((answer) => answer.painted)]")
    waits = []
    for move in moves:
        shown = next((answer for answer in answers if answer["asked"] >= move), None)
        if shown is not None:
            waits.append(shown["painted"] - move)
    return waits


def main() -> None:
    """Draw the hundred digits and print how many were read, and the latencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE")
    parser.add_argument("--width", type=int, default=1440, help="of the window, in pixels")
    options = parser.parse_args()
    weights = options.weights
    right, mistakes, waits = 0, [], list[float]()
    with serve(weights) as (address, _), open_browser() as browser:
        page = browser.new_page(viewport={"width": options.width, "height": 900})
        page.add_init_script(CLOCK)
        page.goto(address)
        page.wait_for_selector("#p0")
        for digit, drawings in load_strokes().items():
            for number, strokes in enumerate(drawings):
                draw(page, strokes, pause=8)
                answer = settle(page)
                right += answer == digit
                if answer != digit:
                    mistakes.append(f"{digit}#{number} read as {answer}")
                page.keyboard.press("c")
        waits = sorted(latencies(page))
    print(f"{right} of 100 drawings read{': ' if mistakes else ''}{', '.join(mistakes)}")
    share = waits[int(0.99 * len(waits))]
    print(
        f"from {len(waits):,} moves of the mouse to the frame with their bars: median "
        f"{median(waits):.0f} ms, 99 % within {share:.0f} ms, worst {waits[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
