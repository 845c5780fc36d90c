"""Classes of pupils, composed of MNIST's writers.

Oracles: writers.txt, and pixels that tell where they came from.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import fine_tuning
from benchmarks.fine_tuning import PICTURES, PUPILS, photograph, picture
from benchmarks.numbers import load_writers
from data import Part

UPRIGHT = np.eye(2)


def test_a_class_is_written_by_twenty_people_and_most_of_it_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture is a digit of one of them, in the folder of its label; no class shares one."""
    numbers = np.arange(5000)
    digits = Part(np.zeros((5000, 28, 28), np.uint8), (numbers % 10).astype(np.uint8))
    monkeypatch.setattr(fine_tuning, "picture", lambda *_: np.zeros((2, 2), np.uint8))
    classes = [photograph(digits, number, tmp_path / str(number)) for number in (12, 13)]
    assert not set(classes[0]) & set(classes[1])
    writers = [places for places in load_writers() if set(places) & set(classes[0])]
    assert len(writers) == PUPILS
    assert sorted(classes[0]) == sorted(place for places in writers for place in places)
    files = {part: [*(tmp_path / "12" / part).rglob("*.png")] for part in ("train", "test")}
    assert len(files["train"]) == PICTURES
    found = [int(file.stem) for part in files.values() for file in part]
    assert sorted(found) == sorted(classes[0])
    assert all(int(file.stem) % 10 == int(file.parent.name) for file in files["test"])


def test_a_photograph_is_dark_on_grey_and_slanted_by_the_hand() -> None:
    """A slant reads upper rows further to the right, so the top of a stroke moves to the left."""
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 13:15] = 255

    def lean(hand: object) -> float:
        grey = picture(digit, np.asarray(hand), 1.0, np.random.default_rng(0)).astype(float)
        assert 40 < grey.min() < 110 < np.median(grey) < 255
        rows = [np.flatnonzero(grey[y] < 0.7 * np.median(grey[y])).mean() for y in (55, 105)]
        return float(rows[0] - rows[1])

    assert lean([[1, 0], [-0.5, 1]]) < lean(UPRIGHT) - 15 < lean([[1, 0], [0.5, 1]]) - 30


def test_the_picture_can_be_saved(tmp_path: Path) -> None:
    grey = picture(np.full((28, 28), 200, np.uint8), UPRIGHT, 1.0, np.random.default_rng(0))
    Image.fromarray(grey).save(tmp_path / "p.png")
    assert grey.dtype == np.uint8
