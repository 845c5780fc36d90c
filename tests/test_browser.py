"""The page in a real browser: headless Chromium, the server of draw.py, trained weights.

Oracles: the digits of the recorded drawings; the preparation of predict.py; the boxes measured by
the browser; axe-core for accessibility.

The tests wait for what the page shows, never for a fixed time. They are skipped without Chromium or
Playwright.
"""

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import NO_PICTURE
from scipy import ndimage

pytest.importorskip("waitress", reason="waitress, the server of the page, is not installed")
pytest.importorskip("playwright", reason="Playwright, which drives the browser, is not installed")

from matplotlib import colormaps
from PIL import Image
from playwright.sync_api import Browser, Page, Response, Route, expect

from benchmarks.drawing import (
    Strokes,
    draw,
    find_browser,
    load_strokes,
    open_browser,
    serve,
    settle,
)
from data import load_dataset
from handcnn import documented_network
from handcnn.models import lenet
from handcnn.pictures import load_picture, prepare_picture
from handcnn.storage.mistakes import read_mistakes
from handcnn.types import Array

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on the PATH"),
]

SEVEN = Path(__file__).parents[1] / "docs" / "seven.jpg"
WIDTHS = (360, 768, 1440)
PATIENCE = 120_000  # timeout in milliseconds, for busy machines
expect.set_options(timeout=PATIENCE)
# For each digit, the index of a drawing that is easy to read after a few seconds of training.
EASY = {"4": 1, "6": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights trained on scikit-learn's digits."""
    path = tmp_path_factory.mktemp("trained") / "weights.npz"
    rng = np.random.default_rng(0)
    net, digits = documented_network(0.002, rng=rng), load_dataset("digits")
    for _ in range(10):
        for x, y in digits.batches("train", 64, rng):
            net.train_step(x, y)
    net.save(path, dataset="digits", epoch=10, val_accuracy=0.9)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(weights: Path) -> Iterator[str]:
    """Yield the address of the page; its server must print nothing but how it ended."""
    with serve(weights, stderr=subprocess.PIPE) as (address, process):
        yield address
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read() == "draw.py: stopped by SIGTERM\n"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Yield the open, empty page; it must contact no other host and cause no error."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = opened(context.new_page(), address)
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        yield page
        assert [url for url in asked if not url.startswith(address)] == []
        assert [e for e in errors if "status of 422" not in e] == []  # logged by the browser itself


def opened(page: Page, address: str) -> Page:
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#p0")
    return page


def drawing(digit: str) -> Strokes:
    """Return a recorded drawing with every second point; the page smooths the lines."""
    strokes = load_strokes()[digit][EASY.get(digit, 0)]
    return [[*stroke[:-1:2], stroke[-1]] for stroke in strokes]


def pixels(page: Page, canvas: str) -> Array:
    """Return the pixels of a canvas: (H, W, 4), uint8."""
    url: str = page.locator(canvas).evaluate("(canvas) => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def shown(page: Page) -> list[str]:
    """Return the answer and the percentages, which change with every drawing."""
    settle(page)
    return [page.locator(f"#{name}").inner_text() for name in ("answer", "p0", "p7")]


EMPTY = ["", "", ""]


# Drawing -----------------------------------------------------------------------------------------


def test_all_ten_digits_by_mouse(page: Page) -> None:
    for digit in load_strokes():
        draw(page, drawing(digit))
        assert settle(page) == digit
        page.click("#clear")
        assert shown(page) == EMPTY


def test_everything_that_is_shown_of_a_drawing(page: Page) -> None:
    assert shown(page) == EMPTY
    expect(page.locator("#origin")).to_have_text(
        "documented: 1,606,666 weights, trained on digits, epoch 10, 90.00 % on validation"
    )
    assert not pixels(page, "#seen")[..., :3].any()
    draw(page, drawing("7"))
    settle(page)
    per_cents = [page.locator(f"#p{k}").inner_text() for k in range(10)]
    assert all(re.fullmatch(r"([<>] )?\d+\.\d\d %", text) for text in per_cents)
    numbers = [float(text.strip("<> %")) for text in per_cents]
    assert sum(numbers) == pytest.approx(100, abs=0.2)
    assert page.locator("#certainty").inner_text() == per_cents[7]
    tracks = [page.locator(f"#p{k} .fill").bounding_box() for k in range(10)]
    whole = page.locator("#p7 .track").bounding_box()
    assert whole is not None
    for number, track in zip(numbers, tracks, strict=True):
        assert track is not None
        assert track["width"] / whole["width"] == pytest.approx(number / 100, abs=0.01)
    seen = pixels(page, "#seen")
    assert seen.shape == (28, 28, 4)
    ys, xs = np.nonzero(seen[..., 0])
    assert max(np.ptp(ys), np.ptp(xs)) + 1 == 20  # as in MNIST, wherever it was drawn
    cards = page.locator("#layers > li")
    assert [card.locator(".shape").inner_text() for card in cards.all()] == [
        "32 \N{MULTIPLICATION SIGN} 28 \N{MULTIPLICATION SIGN} 28",
        "64",
        "10",
    ]
    for canvas in ("#votes", "#gradient"):
        assert len(np.unique(pixels(page, canvas)[..., 0])) > 5
    expect(page.locator("#announcement")).to_have_text(f"7, {per_cents[7]}")


@pytest.mark.parametrize("width", [360, 1440])
def test_the_layers_are_drawn_in_the_colours_of_a_run(page: Page, width: int) -> None:
    """Each tile, found by the transparent gap around it, is compared with the server's numbers."""
    page.set_viewport_size({"width": width, "height": 900})
    answers: list[Response] = []
    page.on("response", lambda response: answers.append(response))
    draw(page, drawing("7"))
    settle(page)
    about = page.evaluate("fetch('network').then((response) => response.json())")
    answer = next(it for it in reversed(answers) if it.url.endswith("/read")).json()
    outputs = answer["digits"][0]["layers"]
    for i, (layer, text) in enumerate(zip(about["layers"], outputs, strict=True)):
        count, h, w = [*layer["shape"], 1, 1][:3]
        shown = pixels(page, f"#layers > li:nth-child({i + 1}) canvas")
        found = tiles(shown)
        if layer["kernels"]:
            found.sort(key=lambda box: box[0].stop - box[0].start)  # filters are smaller
            filters, found = found[:count], found[count:]
            check_tiles(shown, filters, layer["kernels"], 3, 3)
        names = found[count:]
        assert len(names) == (10 if i == 2 else 0)  # one character each
        check_tiles(shown, found[:count], text, h, w)


def tiles(shown: Array) -> list[tuple[slice, slice]]:
    """Return the boxes that are not transparent, row by row."""
    boxes = ndimage.find_objects(ndimage.label(shown[..., 3] > 0)[0])
    return sorted(boxes, key=lambda box: (box[0].start // 8, box[1].start))


def check_tiles(shown: Array, boxes: list[tuple[slice, slice]], text: str, h: int, w: int) -> None:
    """Check the colour in the middle of each pixel of each map, inside its frame."""
    values = np.frombuffer(base64.b64decode(text), np.int8).reshape(len(boxes), h, w)
    for (rows, columns), value in zip(boxes, values, strict=True):
        tile = shown[rows, columns, :3][1:-1, 1:-1]
        ys, xs = (
            ((np.arange(n) + 0.5) * side / n).astype(int)
            for n, side in zip((h, w), tile.shape, strict=False)
        )
        expected = 255 * colormaps["RdBu_r"](0.5 + value / 254)[..., :3]
        np.testing.assert_allclose(tile[np.ix_(ys, xs)], expected, atol=3)


def test_undo_and_clear_by_button_and_key(page: Page) -> None:
    first, second = drawing("4")
    draw(page, [first])
    one = shown(page)
    draw(page, [second])
    two = shown(page)
    assert one != two
    page.click("#undo")
    assert shown(page) == one
    page.keyboard.press("z")
    assert shown(page) == EMPTY
    page.keyboard.press("z")  # there is nothing left
    assert shown(page) == EMPTY
    draw(page, [first, second])
    assert shown(page) == two
    page.keyboard.press("c")
    assert shown(page) == EMPTY
    page.keyboard.press("Control+z")  # undoes the clearing
    assert shown(page) == two
    page.click("#clear")
    assert shown(page) == EMPTY


def test_a_finger_draws_and_does_not_scroll(browser: Browser, address: str) -> None:
    with browser.new_context(
        viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    ) as context:
        page = opened(context.new_page(), address)
        session = context.new_cdp_session(page)
        page.evaluate("scrollTo(0, 100)")
        box = page.locator("#pad").bounding_box()
        assert box is not None

        def touch(kind: str, *points: tuple[float, float]) -> None:
            places = [
                {"x": box["x"] + x / 100 * box["width"], "y": box["y"] + y / 100 * box["height"]}
                for x, y in points
            ]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

        for stroke in drawing("7"):
            touch("touchStart", stroke[0])
            for point in stroke[1:]:
                touch("touchMove", point)
            touch("touchEnd")
        before = shown(page)
        assert before[0] == "7"
        assert page.evaluate("scrollY") == 100
        touch("touchStart", (50, 50), (60, 60))  # a second finger draws nothing
        touch("touchEnd")
        page.click("#undo")
        assert shown(page) == before


def test_the_keys_draw(page: Page) -> None:
    page.focus("#pad")
    expect(page.locator("#cursor")).to_be_hidden()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#cursor")).to_be_visible()
    assert shown(page) == EMPTY
    page.keyboard.press("Space")
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert settle(page) == "1"
    page.keyboard.press("ArrowRight")  # the pen is up
    page.keyboard.press("z")
    assert shown(page) == EMPTY


WATCH_FOR_DARK = """() => {
  window.isDark = new Promise((resolve) => {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", resolve);
  });
}"""


def test_what_is_drawn_survives_another_size_and_the_dark(page: Page) -> None:
    draw(page, drawing("3"))
    before = shown(page)
    ink = pixels(page, "#pad")[..., 3] > 0
    colour = pixels(page, "#pad")[ink][:, :3].mean()
    page.set_viewport_size({"width": 360, "height": 740})
    expect(page.locator("#pad")).to_have_js_property("width", 326)  # 360 minus margins and border
    small = pixels(page, "#pad")
    assert abs((small[..., 3] > 0).mean() - ink.mean()) < 0.01
    assert colour < 60
    page.evaluate(WATCH_FOR_DARK)
    page.emulate_media(color_scheme="dark")
    page.evaluate("() => window.isDark")  # the page hears of the change before this promise does
    small = pixels(page, "#pad")
    assert small[small[..., 3] == 255][:, :3].mean() > 200
    assert shown(page) == before
    page.keyboard.press("c")
    draw(page, drawing("3"))
    assert settle(page) == "3"


# Pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_picture_goes_the_way_of_predict(page: Page, way: str) -> None:
    draw(page, drawing("1"))
    assert settle(page) == "1"
    if way == "choose":
        page.set_input_files("#file", SEVEN)
    else:
        hand_over(page, way, SEVEN.read_bytes())
    expect(page.locator("#answer")).to_have_text("7")
    settle(page)
    seen = prepare_picture(load_picture(SEVEN))
    np.testing.assert_array_equal(pixels(page, "#seen")[..., 0], seen)
    assert len(np.unique(pixels(page, "#pad")[..., 0])) > 10  # the picture is on the pad
    page.click("#undo")
    assert settle(page) == "1"
    page.keyboard.press("c")
    draw(page, drawing("0"))
    assert settle(page) == "0"


def test_a_picture_whose_file_has_changed_comes_back(page: Page, tmp_path: Path) -> None:
    """Regression: the server was said not to respond, for ever."""
    path = tmp_path / "seven.jpg"
    path.write_bytes(SEVEN.read_bytes())
    page.set_input_files("#file", path)
    expect(page.locator("#answer")).to_have_text("7")
    draw(page, drawing("1"))
    assert settle(page) == "1"
    path.write_bytes(b"another picture")
    page.click("#undo")
    for _ in drawing("1")[1:]:
        page.click("#undo")
    expect(page.locator("#answer")).to_have_text("7")
    assert settle(page) == "7"
    expect(page.locator("#notice")).to_be_hidden()


def test_without_javascript_the_page_says_so(browser: Browser, address: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address)
        expect(page.locator("noscript p")).to_be_visible()
        assert page.locator("noscript p").inner_html().startswith("This page needs JavaScript: ")


def hand_over(page: Page, way: str, content: bytes, more: int = 0) -> None:
    """Drop or paste a file with this content, followed by `zeros` zero bytes."""
    page.evaluate(
        """([way, content, more]) => {
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes, new Uint8Array(more)], "it", { type: "image/jpeg" }));
          const options = { bubbles: true, cancelable: true };
          document.dispatchEvent(way === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: data })
            : new ClipboardEvent("paste", { ...options, clipboardData: data }));
        }""",
        [way, base64.b64encode(content).decode(), more],
    )


@pytest.mark.parametrize(
    ("zeros", "remark"),
    [
        (
            1,
            f"The picture {NO_PICTURE}",
        ),
        (10_000_001, "This picture has more than 10 MB. Make it smaller."),
    ],
    ids=["no picture", "too large"],
)
def test_what_cannot_be_read_gets_a_sentence(page: Page, zeros: int, remark: str) -> None:
    hand_over(page, "drop", b"", zeros)
    expect(page.locator("#remark")).to_have_text(remark)
    assert shown(page) == EMPTY
    page.keyboard.press("c")
    draw(page, drawing("7"))
    assert settle(page) == "7"


# Numbers -----------------------------------------------------------------------------------------


def placed(strokes: Strokes, x: float, y: float, factor: float) -> Strokes:
    """Return a drawing made smaller, with its upper left corner at (x, y)."""
    left, top = np.min([point for stroke in strokes for point in stroke], axis=0)
    return [[(x + factor * (a - left), y + factor * (b - top)) for a, b in s] for s in strokes]


def write(page: Page, first: str = "7", second: str = "4") -> list[str]:
    """Write a number of two digits; return the text of its answer and of the digits' boxes."""
    draw(page, [*placed(drawing(first), 10, 25, 0.5), *placed(drawing(second), 60, 25, 0.5)])
    return [settle(page), *page.locator(".field button b").all_inner_texts()]


@pytest.mark.parametrize("width", [*WIDTHS, 1920])
def test_a_number_is_read_and_boxed(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert write(page) == ["74", "7", "4"]
    pad = page.locator("#pad").bounding_box()
    assert pad is not None
    assert pad["width"] / pad["height"] == pytest.approx(16 / 9 if width == 1920 else 1, abs=0.01)
    ink = pixels(page, "#pad")[..., 3] > 100
    scale = ink.shape[0] / pad["height"]
    covered = np.zeros_like(ink)
    for button in page.locator(".field button").all():
        box = button.bounding_box()
        assert box is not None
        x, y = (box["x"] - pad["x"]) * scale, (box["y"] - pad["y"]) * scale
        bottom, right = y + box["height"] * scale, x + box["width"] * scale
        covered[round(y) : round(bottom), round(x) : round(right)] = True
    assert ink.any()
    assert covered[ink].all()
    assert covered.mean() < 0.5
    explanation = page.locator("#remark")
    expect(explanation).to_have_text("Click a digit to see how the network reads it.")
    page.keyboard.press("z")
    page.keyboard.press("z")
    assert settle(page) == "7"
    expect(page.locator(".field button")).to_have_count(0)
    expect(explanation).to_contain_text("cut out, centred and scaled")


def test_a_click_chooses_a_digit_and_a_stroke_draws_there(page: Page) -> None:
    assert write(page)[0] == "74"
    whole = page.locator("#certainty").inner_text()
    assert re.fullmatch(r"([<>] )?\d+\.\d\d % for all of it", whole)
    expect(page.locator("#announcement")).to_have_text(f"7 4, {whole.split(' for')[0]}")
    boxes = page.get_by_role("button", name="Digit")
    heading, seen = page.locator("#why h2"), pixels(page, "#seen")
    expect(heading).to_have_text("Why 4?")
    box = boxes.nth(0).bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*middle)
    expect(heading).to_have_text("Why 7?")
    assert (pixels(page, "#seen") != seen).any()
    expect(boxes.nth(0)).to_have_attribute("aria-pressed", "true")
    expect(boxes.nth(1)).to_have_attribute("aria-pressed", "false")
    name = boxes.nth(0).get_attribute("aria-label")
    assert name == f"Digit 1 of 2: 7, {page.locator('#p7').inner_text()}"
    assert settle(page) == "74"  # the click drew nothing
    boxes.nth(1).focus()
    page.keyboard.press("Enter")
    expect(heading).to_have_text("Why 4?")
    assert (pixels(page, "#seen") == seen).all()
    ink = pixels(page, "#pad")[..., 3].sum()
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 30, middle[1] + 10)
    page.mouse.up()
    settle(page)
    assert pixels(page, "#pad")[..., 3].sum() > ink


def test_a_number_keeps_its_shape_when_the_pad_does_not(page: Page) -> None:
    page.set_viewport_size({"width": 1920, "height": 900})
    draw(page, [*placed(drawing("7"), -30, 20, 0.6), *placed(drawing("4"), 90, 20, 0.6)])
    assert settle(page) == "74"
    before = shown(page)
    page.set_viewport_size({"width": 768, "height": 900})
    expect(page.locator("#pad")).to_have_js_property("width", 342)
    ink = np.nonzero(pixels(page, "#pad")[..., 3])
    assert np.ptp(ink[1]) > 2 * np.ptp(ink[0])  # all of it is still there
    draw(page, [[(50, 50), (50, 53)]])
    page.keyboard.press("z")
    assert shown(page) == before


def test_a_photograph_of_a_number_is_read(page: Page) -> None:
    seven = Image.open(SEVEN).convert("L")
    both = Image.new("L", (2 * seven.width, seven.height))
    for i in (0, 1):
        both.paste(seven, (i * seven.width, 0))
    file = io.BytesIO()
    both.save(file, "PNG")
    hand_over(page, "drop", file.getvalue())
    expect(page.locator("#answer")).to_have_text("77")
    field, pad = (page.locator(name).bounding_box() for name in (".field", "#pad"))
    assert field is not None
    assert pad is not None
    assert field["width"] / field["height"] == pytest.approx(both.width / both.height, rel=0.02)
    assert field["width"] == pytest.approx(pad["width"], abs=1)


# Mistakes and drawings kept ----------------------------------------------------------------------


def test_a_mistake_is_put_on_the_page_and_explained(browser: Browser, finished: Path) -> None:
    mistakes = read_mistakes(finished / "mistakes.npz", 10)
    with serve(finished) as (address, _), browser.new_context() as context:
        page = opened(context.new_page(), address)
        buttons = page.locator("#worst button")
        expect(buttons).to_have_count(len(mistakes.images))
        for i in (1, 0):
            label, answer = mistakes.labels[i], mistakes.answers[i]
            expect(buttons.nth(i)).to_have_text(f"{label} → {answer}")
            buttons.nth(i).click()
            expect(page.locator("#answer")).to_have_text(str(answer))
            expect(page.locator("#why-class")).to_have_text(f"not {label}?")
            settle(page)
            np.testing.assert_array_equal(pixels(page, "#seen")[..., 0], mistakes.images[i])
            sentence = f"Test image {mistakes.numbers[i]:,}: a {label}, read as {answer} with "
            expect(page.locator("#mistake")).to_contain_text(sentence)
            page.keyboard.press("c")
            assert shown(page) == EMPTY
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_drawings_are_kept_by_click_and_key(
    browser: Browser, weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    options = ("--collect", str(folder))
    with serve(weights, *options) as (address, _), browser.new_context() as context:
        page = opened(context.new_page(), address)
        kept, labels = page.locator("#kept"), page.locator("#labels button")
        expect(kept).to_have_text(f"0 drawings in {folder}.")
        labels.nth(7).click()  # nothing is on the pad
        draw(page, drawing("7"))
        assert settle(page) == "7"
        labels.nth(7).click()
        expect(kept).to_have_text(f"1 drawing in {folder}.")
        assert shown(page) == EMPTY
        draw(page, drawing("4"))
        assert settle(page) == "4"
        page.keyboard.press("Shift+Digit4")
        expect(kept).to_have_text(f"2 drawings in {folder}.")
        expect(labels.nth(4)).to_have_text("4 1")
        for digit in "47":
            (path,) = (folder / digit).iterdir()
            assert settle(page) == ""
            page.set_input_files("#file", path)
            expect(page.locator("#answer")).to_have_text(digit)
            page.keyboard.press("c")
        page.click("#unkeep")
        expect(kept).to_have_text(f"1 drawing in {folder}.")
        assert not (folder / "4").exists()

        page.evaluate("scrollTo(0, 0)")
        assert write(page)[0] == "74"
        page.keyboard.press("Shift+Digit4")
        expect(kept).to_have_text(f"2 drawings in {folder}.")
        assert settle(page) == "74"  # its other digits may follow
        (path,) = (folder / "4").iterdir()
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels(page, "#seen")[..., 0])
        shutil.rmtree(folder)
        folder.write_text("a file")
        page.keyboard.press("Shift+Digit4")
        expect(page.locator("#remark")).to_contain_text("The drawing was not kept: ")


# Why ---------------------------------------------------------------------------------------------


def test_why_is_told_of_the_answer_and_on_a_click_of_any_digit(page: Page) -> None:
    draw(page, drawing("7"))
    settle(page)
    heading = page.locator("#why h2")
    expect(heading).to_have_text("Why 7?")
    own = pixels(page, "#votes")
    page.click("#p1")
    expect(heading).to_have_text("Why not 1?")
    other = pixels(page, "#votes")
    assert (own != other).any()
    page.keyboard.press("7")
    expect(heading).to_have_text("Why 7?")
    assert (pixels(page, "#votes") == own).all()
    page.focus("#choice input >> nth=7")
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    expect(heading).to_have_text("Why not 1?")
    assert (pixels(page, "#votes") == other).all()
    seen = pixels(page, "#seen")[..., 0]
    paper = pixels(page, "#votes")[seen == 0]
    assert (paper == paper[0]).all()  # without ink, there are no votes


# Requests ----------------------------------------------------------------------------------------


def test_one_request_at_a_time_and_the_newest_drawing_wins(page: Page) -> None:
    held: list[Route] = []
    page.route("**/read", lambda route: held.append(route))
    with page.expect_request("**/read"):
        draw(page, drawing("8"))
    page.keyboard.press("c")
    draw(page, drawing("7"))
    assert len(held) == 1
    with page.expect_request("**/read"):
        held[0].continue_()  # it sent the first point of the 8
    assert page.locator("#answer").inner_text() == ""  # the 8 was cleared
    assert len(held) == 2
    held[1].continue_()
    assert settle(page) == "7"
    assert len(held) == 2


def test_a_late_answer_does_not_come_back_to_an_empty_pad(page: Page) -> None:
    held: list[Route] = []
    page.route("**/read", lambda route: held.append(route))
    with page.expect_request("**/read"):
        draw(page, drawing("8"))
    page.keyboard.press("c")
    with page.expect_response("**/read"):
        held[0].continue_()
    assert shown(page) == EMPTY


def test_a_lost_server_is_told_and_found_again(
    browser: Browser, weights: Path, tmp_path: Path
) -> None:
    """The second server has another network with other classes."""
    names = ["circle", "stroke", "a class with a long name", "<i>&amp;"]
    other = tmp_path / "other.npz"
    rng = np.random.default_rng(0)
    lenet(classes=4, rng=rng).save(other, classes=names)
    with browser.new_context(viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        with serve(weights) as (address, process):
            opened(page, address)
            draw(page, drawing("7"))
            assert settle(page) == "7"
            process.kill()
        port = address.split(":")[-1].strip("/")
        notice = page.locator("#notice")
        expect(notice).to_have_text(
            f"The server does not respond. Start it again with --port {port}."
        )
        draw(page, drawing("1"))
        with serve(other, "--port", port):
            expect(notice).to_be_hidden()
            expect(page.locator("#p9")).to_have_count(0)
            assert settle(page) in names
            labels = page.locator("#bars li > span:first-child")
            expect(labels).to_have_text(names)
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert page.locator("#layers > li").count() == 8


# Layout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overlaps_overflows_or_jumps(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, page.url)  # after a resize, things move with a delay
    empty = boxes(page)
    draw(page, drawing("7")[:1])
    settle(page)
    assert boxes(page) == empty
    assert page.evaluate("document.documentElement.scrollWidth") == width
    parts = [box for name, box in empty.items() if name.startswith("section")]
    assert len(parts) == 5
    for i, (x, y, w, h) in enumerate(parts):
        for left, top, wide, high in parts[:i]:
            apart = x >= left + wide or left >= x + w or y >= top + high or top >= y + h
            assert apart
    cut = page.evaluate(
        """[...document.querySelectorAll("main :not(.unseen)")]
          .filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1
                         && getComputedStyle(e).display !== "inline")
          .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert cut == []


def boxes(page: Page) -> dict[str, list[float]]:
    """Return x, y, width and height of all elements."""
    found: dict[str, list[float]] = page.evaluate(
        """Object.fromEntries(
          [...document.querySelectorAll("section, canvas, li, h2, h3, button, input, #answer, "
                                        + "#certainty, #remark, .bar, .track, figcaption")]
          .map((e, i) => {
            const { x, y, width, height } = e.getBoundingClientRect();
            const size = e.matches("h2") ? [x, y] : [x, y, width, height];
            return [`${e.localName} ${e.id} ${i}`, size];
          }))"""
    )
    return found


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "dark")])
def test_a_screen_reader_and_weak_eyes_can_use_it(page: Page, width: int, scheme: Any) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="there is no axe-core"
    )
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for state in ("empty", "digit", "number"):
        if state == "digit":
            draw(page, drawing("7"))
        elif state == "number":
            page.keyboard.press("c")
            write(page)
        settle(page)
        results = axe.Axe().run(page).response
        assert [(fault["id"], fault["nodes"]) for fault in results["violations"]] == []
        assert {rule["id"] for rule in results["passes"]} > {"color-contrast", "label"}


def test_every_control_has_its_turn(page: Page) -> None:
    page.keyboard.press("Tab")
    names = []
    for _ in range(7):
        names.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
        page.keyboard.press("Tab")
    assert names[:6] == ["pad", "undo", "clear", "file", "pen", "why"]
