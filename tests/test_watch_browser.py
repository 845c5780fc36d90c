"""The training page in a real browser: headless Chromium, and train.py on scikit-learn's digits.

Oracles: the arithmetic of the update, from the numbers in the page's data; the exit code and the
files of a run; the boxes measured by the browser; axe-core for accessibility.

The tests wait for what the page shows. They are skipped without Chromium or Playwright.
"""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from training_processes import FILES, ROOT

pytest.importorskip("waitress", reason="waitress, the server of the page, is not installed")
pytest.importorskip("playwright", reason="Playwright, which drives the browser, is not installed")

from playwright.sync_api import Browser, Page, expect

from benchmarks.drawing import draw, find_browser, load_strokes, open_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on the PATH"),
]

PATIENCE = 120_000  # timeout in milliseconds, for busy machines
expect.set_options(timeout=PATIENCE)
LONG = ("--dataset", "digits", "--epochs", "10000", "--threads", "1")
SHORT = ("--dataset", "digits", "--epochs", "8", "--threads", "1")
PICTURE = "(canvas) => canvas.toDataURL()"


class Training(NamedTuple):
    """A watched training: its page's address, its process, and the folder of its run."""

    address: str
    process: subprocess.Popen[str]
    outputs: Path

    @property
    def run(self) -> Path:
        (folder,) = self.outputs.iterdir()
        return folder

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Send a signal; return the exit code and what was printed."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextmanager
def training(outputs: Path, *options: str) -> Iterator[Training]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "train.py", "--watch", "--no-browser", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--output-dir", str(outputs), *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        try:
            assert found is not None
            yield Training(found[0], process, outputs)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    """Yield a training that does not end; it must print no errors."""
    with training(tmp_path_factory.mktemp("long"), *LONG) as it:
        yield it
        code, _, err = it.end()
        stopping, stopped = err.strip().split("\n")
        assert (code, stopping) == (130, "stopping after this step; press Ctrl-C again to quit now")
        assert stopped.startswith("train.py: stopped by SIGINT; nothing is lost; resume with: ")


@pytest.fixture
def page(browser: Browser, long: Training) -> Iterator[Page]:
    """Yield the page of the long training, which goes on; it must cause no error."""
    with opened(browser, long) as page:
        if page.get_attribute("#pause", "aria-pressed") == "true":
            page.click("#pause")
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")
        yield page


@contextmanager
def opened(browser: Browser, it: Training, **settings: Any) -> Iterator[Page]:
    settings = {"viewport": {"width": 1920, "height": 1080}} | settings
    with browser.new_context(**settings) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(it.address)
        expect(page.locator("#epoch")).to_have_text(re.compile(r"\d+/\d+"))
        yield page
        assert [url for url in asked if not url.startswith(it.address)] == []
        lost = "Failed to load resource: net::ERR"  # logged when the training has ended
        assert [error for error in errors if not error.startswith(lost)] == []


def steps(page: Page) -> int:
    return int(page.inner_text("#step"))


def pause(page: Page) -> int:
    """Pause; return the number of steps taken."""
    page.click("#pause")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    return steps(page)


def step(page: Page) -> None:
    before = steps(page)
    page.click("#one-step")
    expect(page.locator("#step")).to_have_text(str(before + 1))
    expect(page.locator("#step-detail")).to_contain_text(f"Step {before + 1}:")


def draw_digit(page: Page, digit: str, number: int = 0) -> None:
    page.locator("#pad").scroll_into_view_if_needed()
    draw(page, load_strokes()[digit][number])


def moves_on(page: Page, by: int = 1) -> None:
    """Wait until the training has taken some more steps."""
    target = steps(page) + by
    while steps(page) < target:
        page.wait_for_timeout(50)


# What one sees -----------------------------------------------------------------------------------


def test_figures_move_curves_grow_and_kernels_change(page: Page) -> None:
    canvases = ("#kernels", "#loss-curve", "#accuracy-curve")
    before = {name: page.locator(name).evaluate(PICTURE) for name in canvases}
    moves_on(page, 40)
    for name in canvases:
        page.wait_for_function(
            f"before => ({PICTURE})(document.querySelector('{name}')) !== before", arg=before[name]
        )
    epoch, epochs = page.inner_text("#epoch").split("/")
    assert (int(epochs), int(epoch) > 1) == (10000, True)
    assert float(page.inner_text("#loss")) < 5
    assert re.fullmatch(r"\d+\.\d\d %", page.inner_text("#validation"))
    look = "all => all.map(it => [it.dataset.label, it.dataset.answer, it.matches('.wrong')])"
    samples = page.locator("#samples > *").evaluate_all(look)  # all at one moment
    assert len(samples) == 30
    for label, answer, is_wrong in samples:
        assert {label, answer} <= set("0123456789")
        assert is_wrong == (label != answer)


def test_a_chosen_sample_changes_the_maps(page: Page) -> None:
    pause(page)
    before = page.locator("#kernels").evaluate(PICTURE)
    page.click("#samples > :nth-child(20)")
    expect(page.locator("#samples > :nth-child(20)")).to_have_attribute("aria-pressed", "true")
    for _ in range(100):
        page.wait_for_timeout(50)
        if page.locator("#kernels").evaluate(PICTURE) != before:
            return
    raise AssertionError("the maps are those of the first sample")


def test_a_drawn_digit_is_answered_and_answered_again(page: Page) -> None:
    draw_digit(page, "4", 1)
    expect(page.locator("#answer")).to_have_text(re.compile(r"\d"))
    remark = page.locator("#remark")
    expect(remark).to_have_text(re.compile(r"read after step \d+"))
    first = remark.inner_text()
    expect(remark).not_to_have_text(first)  # by a network that has learned more
    page.click("#clear")
    expect(page.locator("#answer")).to_have_text("")


# Control -----------------------------------------------------------------------------------------


def test_a_pause_holds_and_a_step_adds_one_whose_arithmetic_is_right(page: Page) -> None:
    held = pause(page)
    page.wait_for_timeout(1500)
    assert steps(page) == held
    step(page)
    page.wait_for_timeout(1500)
    assert steps(page) == held + 1
    for layer, cells in (("1", 9), ("2", 9), ("3", 9)):
        page.select_option("#layer", layer)
        expect(page.locator("#layer")).to_have_value(layer)
        page.wait_for_timeout(300)
        found = page.locator(".grid:last-of-type td").evaluate_all(
            "(cells) => cells.map(({ dataset, textContent }) => ({ ...dataset, textContent }))"
        )
        assert len(found) == cells
        for cell in found:
            w, dw, rate, new = (float(cell[name]) for name in ("weight", "gradient", "rate", "new"))
            assert new == pytest.approx(w - rate * dw, abs=1e-6)
            text = cell["textContent"].replace("\N{MINUS SIGN}", "-")
            assert float(text) == pytest.approx(new, abs=0.51 * 10 ** -len(text.split(".")[1]))
    text = page.inner_text("#step-detail")
    assert f"Step {held + 1}: a batch of" in text
    losses = page.locator(".equation").first
    before, after = (losses.get_attribute(f"data-loss{name}") for name in ("", "-after"))
    assert (
        f"{float(before or ''):.5f} → after, on the same images, {float(after or ''):.5f}" in text
    )
    page.click("#pause")
    expect(page.locator("#one-step")).to_be_disabled()
    moves_on(page)


def test_the_keys_pause_and_step_but_not_while_one_types(page: Page) -> None:
    page.keyboard.press("p")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    held = steps(page)
    page.keyboard.press("s")
    expect(page.locator("#step")).to_have_text(str(held + 1))
    page.focus("#unit")
    page.keyboard.press("s")
    page.keyboard.press("p")
    page.wait_for_timeout(700)
    assert (steps(page), page.get_attribute("#pause", "aria-pressed")) == (held + 1, "true")


def test_a_reload_and_a_second_page_show_everything(page: Page, long: Training) -> None:
    draw_digit(page, "1")
    pause(page)
    step(page)
    shown = ("epoch", "step", "loss", "validation", "step-detail", "changes")
    before = [page.inner_text(f"#{name}") for name in shown]
    curve = page.locator("#loss-curve").evaluate(PICTURE)
    page.reload()
    expect(page.locator("#step")).to_have_text(before[1])
    expect(page.locator("#step-detail")).to_contain_text("a batch of")
    assert [page.inner_text(f"#{name}") for name in shown] == before
    browser = page.context.browser
    assert browser is not None
    with opened(browser, long) as other:
        assert other.locator("#loss-curve").evaluate(PICTURE) == curve
        other.click("#pause")  # any page controls the training
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")


def test_stop_ends_as_ctrl_c_does_and_the_run_resumes(browser: Browser, tmp_path: Path) -> None:
    with training(tmp_path, *LONG) as it, opened(browser, it) as page:
        moves_on(page, 60)
        page.click("#stop")
        expect(page.locator("#status")).to_contain_text("--resume")
        code, _, err = it.ended()
        assert code == 130
        assert "train.py: stopped by SIGINT; nothing is lost; resume with: " in err
        history = (it.run / "history.csv").read_text().splitlines()
        command = [sys.executable, "train.py", "--resume", str(it.run), "--epochs"]
        done = str(len(history) - 1)
        assert subprocess.run([*command, done], cwd=ROOT, capture_output=True).returncode == 0
        assert {path.name for path in it.run.glob("[!.]*")} == FILES


def test_the_finished_page_shows_the_result_until_ctrl_c(browser: Browser, tmp_path: Path) -> None:
    with training(tmp_path, *SHORT) as it, opened(browser, it) as page:
        expect(page.locator("#result")).to_be_visible()
        assert page.inner_text("#epoch") == "8/8"
        for image in page.locator("#plots img").all():
            expect(image).to_have_js_property("complete", True)
            assert image.evaluate("(image) => image.naturalWidth") > 500
        for button in ("#pause", "#one-step", "#stop"):
            expect(page.locator(button)).to_be_disabled()
        draw_digit(page, "1")
        expect(page.locator("#answer")).to_have_text(re.compile(r"\d"))
        assert_accessible(page)
        result = page.inner_text("#test")
        with opened(browser, it) as late:
            expect(late.locator("#result")).to_be_visible()
            assert steps(late) == steps(page)
        code, out, err = it.end()
        assert (code, err) == (0, "")
        assert out.endswith(f"the page stays at {it.address} until Ctrl-C\n")
        share = re.search(r"test accuracy (\d+\.\d\d %)", out)
        assert share is not None
        assert result.startswith(share[1])
        expect(page.locator("#notice")).to_contain_text("--resume")


# Layout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 1024, 1920])
def test_nothing_overlaps_overflows_or_jumps(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.reload()
    expect(page.locator("#kernels")).not_to_have_js_property("height", 150)  # it is painted
    pause(page)
    step(page)
    empty, before = boxes(page), places(page)
    for _ in range(3):
        step(page)
    draw_digit(page, "7")
    expect(page.locator("#answer")).not_to_have_text("")
    assert places(page) == before
    page.evaluate(LONG_ANSWER)  # as a half drawn digit may have while the network knows little
    assert places(page) == before
    wide = page.evaluate(WIDE)
    assert (page.evaluate("document.documentElement.scrollWidth"), wide) == (width, [])
    parts = list(empty.values())
    assert len(parts) == 9
    for i, (x, y, w, h) in enumerate(parts):
        for left, top, wide, high in parts[:i]:
            assert x >= left + wide or left >= x + w or y >= top + high or top >= y + h


LONG_ANSWER = r"""
  document.getElementById("answer").className = "name";
  document.getElementById("answer").textContent = "17\n4\n2";
  document.getElementById("remark").textContent =
    Array(9).fill("digit 2 may be 1 11 %, 7 10.9 %, 4 10.5 %").join("\n");
"""
WIDE = """[...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth && !e.closest(".wide"))
  .map((e) => e.outerHTML.slice(0, 80))"""


def places(page: Page) -> dict[str, list[float]]:
    """Return the boxes without the height of the last: its numbers may need one more line."""
    found = boxes(page)
    assert max(found, key=lambda name: found[name][1]) == "single-panel"
    found["single-panel"].pop()
    return found


def boxes(page: Page) -> dict[str, list[float]]:
    """Return x, y, width and height of the visible sections, from the top of the page."""
    page.evaluate("scrollTo(0, 0)")
    found: dict[str, list[float]] = page.evaluate(
        """Object.fromEntries([...document.querySelectorAll("section")]
          .filter((section) => !section.hidden)
          .map((section) => {
            const { x, y, width, height } = section.getBoundingClientRect();
            return [section.id, [x, y, width, height]];
          }))"""
    )
    return found


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1920, "dark")])
def test_a_screen_reader_and_weak_eyes_can_use_it(page: Page, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    pause(page)
    step(page)
    draw_digit(page, "7")
    expect(page.locator("#answer")).not_to_have_text("")
    assert_accessible(page)
    page.evaluate(LONG_ANSWER)  # it can be scrolled without a mouse
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="there is no axe-core"
    )
    results = axe.Axe().run(page).response
    assert [(fault["id"], fault["nodes"]) for fault in results["violations"]] == []
    assert {rule["id"] for rule in results["passes"]} > {"color-contrast", "button-name"}


def test_the_controls_come_first_for_the_keyboard(page: Page) -> None:
    pause(page)
    page.reload()
    expect(page.locator("#one-step")).to_be_enabled()
    names = []
    for _ in range(3):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id"))
    assert names == ["pause", "one-step", "stop"]
    assert np.all([page.locator(f"#{name}").is_enabled() for name in names])
