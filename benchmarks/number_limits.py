"""Check that single digits are read as one digit, and that large pictures are read fast.

    python -m benchmarks.number_limits --weights outputs/RUN/weights.npz

MNIST's test images are read as pictures, dark on light: of 28x28 pixels, and enlarged to 200x200.
Each must be read as one digit. Then predict.py reads a photograph of 12 megapixels with 70 digits:
seven rows of ten MNIST digits in uneven light. Its time and memory are those of the whole program.
Needs Linux, which knows the largest memory of a program.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from data import load_dataset
from handcnn.commands import command_line as cli
from handcnn.pictures import read_digits
from handcnn.storage.networks import load_network
from handcnn.types import Array

ROOT = Path(__file__).parents[1]
SIDES = (28, 200)  # pixels
PROGRAM = """
from handcnn.commands import predict
predict.main()
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))  # kB
"""
WIDTH, HEIGHT, ROWS, COLUMNS = 4000, 3000, 7, 10


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m benchmarks.number_limits", description=__doc__)
    parser.add_argument("--weights", type=cli.file, required=True, metavar="FILE")
    parser.add_argument(
        "--count", type=cli.whole_number(1, 10_000), default=10_000, help="of the test images"
    )
    options = parser.parse(arguments)
    return cli.run(
        "benchmarks.number_limits", lambda: measure(options.weights.resolve(), options.count)
    )


def measure(weights: Path, count: int) -> int:
    """Print how many single digits were read as several, and what a large picture costs."""
    net = load_network(weights)
    test = load_dataset("mnist").test
    images, labels = test.images[:count], test.labels[:count]
    for side in SIDES:
        texts = [read_digits(net, enlarged(255 - image, side)).text for image in images]
        several = [i for i, text in enumerate(texts) if len(text) > 1]
        right = sum(text == str(label) for text, label in zip(texts, labels, strict=True))
        print(
            f"{side}x{side}: {len(several)} of {count:,} read as several digits {several}, "
            f"{right:,} right",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.jpg"
        page(images).save(path, quality=90)
        seconds, megabytes, digits = read_page(path, weights)
    right = sum(digit == str(label) for digit, label in zip(digits, labels, strict=False))
    print(
        f"{WIDTH}x{HEIGHT}: {seconds:.2f} s, {megabytes:.0f} MB; "
        f"of {ROWS * COLUMNS} digits {len(digits)} found, {right} right"
    )
    return 0


def enlarged(image: Array, side: int) -> Array:
    """Return an image (28, 28), enlarged to side x side pixels."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def page(images: Array) -> Image.Image:
    """Return a photograph of rows of digits, in light that falls off to one side."""
    paper = np.linspace(235, 150, WIDTH)[None].repeat(HEIGHT, axis=0)
    pitch_x, pitch_y = WIDTH // (COLUMNS + 1), HEIGHT // (ROWS + 1)
    for i, image in enumerate(images[: ROWS * COLUMNS]):
        row, column = divmod(i, COLUMNS)
        digit = enlarged(image, 300) / 255
        top, left = pitch_y // 2 + row * pitch_y, pitch_x // 2 + column * pitch_x
        paper[top : top + 300, left : left + 300] *= 1 - 0.75 * digit
    noise = np.random.default_rng(0).normal(0, 4, paper.shape)
    return Image.fromarray(np.clip(paper + noise, 0, 255).astype(np.uint8))


def read_page(path: Path, weights: Path) -> tuple[float, float, str]:
    """Return the seconds and megabytes that predict.py takes, and the digits that it reads."""
    command = [sys.executable, "-c", PROGRAM, "--json", "--weights", str(weights), str(path)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - start
    answer, peak = done.stdout.splitlines()
    return seconds, int(peak) / 1000, json.loads(answer)["text"].replace("\n", "")


if __name__ == "__main__":
    sys.exit(main())
