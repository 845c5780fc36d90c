"""Digits in composed photographs: how many are read under which shadow, with which pen.

    python -m benchmarks.photographs                            with the network of the package
    python -m benchmarks.photographs --weights FILE
    python -m benchmarks.photographs --example docs/shadow.jpg  write one of the pictures

The hundred drawings of `strokes.json` are drawn with four pens on paper of 480 x 400 pixels. A
shadow is a factor on the light; the camera adds noise. Each cell of the tables counts the drawings
that are read right, and those that are read with a remark of doubt.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.drawing import Strokes, load_strokes
from handcnn import Network, load_network
from handcnn.commands import command_line as cli
from handcnn.pictures import examine_picture
from handcnn.types import Array

WIDTH, HEIGHT, NOISE = 480, 400, 2.0
PAPER, DESK, LINES = 210, 70, 150  # grey levels
PENS = {"marker": (20, 30), "felt pen": (11, 40), "ball pen": (6, 80), "pencil": (6, 150)}
LINE_DISTANCE = 40

Effect = Callable[[Array], Array]  # from grey levels (H, W) to grey levels


def written(strokes: Strokes, pen: str) -> Array:
    """Return a drawing on plain paper, in grey levels (HEIGHT, WIDTH)."""
    width, grey = PENS[pen]
    cover, large = Image.new("L", (2 * WIDTH, 2 * HEIGHT), 0), 6  # six pixels for a hundredth
    draw = ImageDraw.Draw(cover)
    for stroke in strokes:
        points = [(180 + large * x, 100 + large * y) for x, y in stroke]
        draw.line(points, 255, 2 * width, joint="curve")
        for x, y in points:
            draw.ellipse((x - width, y - width, x + width, y + width), 255)
    ink = np.asarray(cover.resize((WIDTH, HEIGHT), Image.Resampling.BOX)) / 255
    page: Array = ndimage.gaussian_filter(PAPER + (grey - PAPER) * ink, 0.8)
    return page


def shadow(depth: float, softness: float, diagonal: bool = True) -> Effect:
    """Return the effect of a shadow on the left, or on the upper left."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = (x + y - 450) / 1.4 if diagonal else x - 210.0
    light = 1 - depth / (1 + np.exp(np.clip(distance / softness, -40, 40)))
    return lambda page: page * light


def ruled(page: Array) -> Array:
    """Return the page with printed squares."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    lines = (y % LINE_DISTANCE < 2) | (x % LINE_DISTANCE < 2)
    return np.where(lines, np.minimum(page, LINES), page)


def on_a_desk(page: Array) -> Array:
    """Return the page as a tilted sheet on a dark desk."""
    around = np.pad(page, 120, constant_values=np.nan)
    turned = ndimage.rotate(around, 8, reshape=False, order=1, cval=np.nan)
    return np.where(np.isnan(turned), DESK, turned)


SHADOWS: dict[str, Effect] = {"none": lambda page: page} | {
    f"{depth} %, {edge}": shadow(depth / 100, softness)
    for depth in (15, 25, 35)
    for edge, softness in (("hard", 1.5), ("soft", 40.0))
}
PAPERS: dict[str, Effect] = {
    "squared": ruled,
    "on a desk": on_a_desk,
    "squared, shadow": lambda page: shadow(0.25, 10)(ruled(page)),
    "on a desk, shadow": lambda page: on_a_desk(shadow(0.25, 10, diagonal=False)(page)),
}


def read(net: Network, effect: Effect, pen: str) -> str:
    """Return how many of the hundred drawings are read right, and how many with doubt."""
    rng, images, labels, doubts = np.random.default_rng(0), [], [], 0
    for label, drawings in load_strokes().items():
        for strokes in drawings:
            page = effect(written(strokes, pen))
            found = examine_picture(np.clip(page + rng.normal(0, NOISE, page.shape), 0, 255))
            images.append(found.image)
            labels.append(int(label))
            doubts += bool(found.doubt)
    right = (net.predict(np.stack(images)[:, None] / np.float32(255)) == labels).sum()
    return f"{right}" + (f" ({doubts} doubted)" if doubts else "")


def show_table(net: Network, title: str, effects: Mapping[str, Effect]) -> None:
    """Print a row for each effect and a column for each pen, in Markdown."""
    show_row([title, *PENS])
    show_row(["---"] * (1 + len(PENS)))
    for name, effect in effects.items():
        show_row([name, *(read(net, effect, pen) for pen in PENS)])
    print()


def show_row(cells: Iterable[str]) -> None:
    """Print a row of a table in Markdown."""
    print("|", " | ".join(cells), "|", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    parser = cli.Parser(prog="python -m benchmarks.photographs", description=__doc__)
    parser.add_argument("--weights", type=Path, metavar="FILE")
    parser.add_argument("--example", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)

    return cli.run("benchmarks.photographs", lambda: benchmark(options.weights, options.example))


def benchmark(weights: Path | None, example: Path | None) -> int:
    """Print the tables, or write the example: squared paper on a desk, with a shadow over it."""
    if example:
        page = on_a_desk(shadow(0.35, 8)(ruled(written(load_strokes()["4"][0], "ball pen"))))
        noisy = np.clip(page + np.random.default_rng(0).normal(0, NOISE, page.shape), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(example, quality=90)
        return 0
    net = load_network(*filter(None, [weights]))
    show_table(net, "shadow", SHADOWS)
    show_table(net, "paper", PAPERS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
