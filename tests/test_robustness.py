"""Accuracy on shifted and rotated images.

Oracles: slices of the image for whole pixels, quarter turns, and a network with known answers.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import robustness
from benchmarks.robustness import COLUMNS, rotated, shifted
from handcnn import Network, OutputLayer


def test_shifts_are_by_whole_pixels_into_all_directions() -> None:
    """The ink is in the middle, so that none is shifted out."""
    x = np.zeros((2, 1, 9, 8), np.float32)
    x[:, :, 2:7, 2:6] = np.random.default_rng(0).random((2, 1, 5, 4))
    for y_, x_ in ((1, 0), (0, -2), (-2, 2)):
        np.testing.assert_array_equal(shifted(y_, x_)(x), np.roll(x, (y_, x_), axis=(2, 3)))
    expected = {
        "original": {(0, 0)},
        "1 pixel": {(1, 0), (-1, 0), (0, 1), (0, -1)},
        "2 pixels": {(2, 0), (-2, 0), (0, 2), (0, -2)},
        "2 and 2": {(2, 2), (2, -2), (-2, 2), (-2, -2)},
    }
    for name, moves in expected.items():
        found = sorted(move(x).tobytes() for move in COLUMNS[name])
        assert found == sorted(np.roll(x, move, axis=(2, 3)).tobytes() for move in moves)


def test_what_leaves_an_image_does_not_come_in_on_the_other_side() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    assert shifted(1, -1)(x).sum() == 9
    assert shifted(0, 4)(x).sum() == 0


def test_rotations_are_in_degrees_around_the_middle() -> None:
    x = np.random.default_rng(0).random((2, 1, 6, 6), np.float32)
    turns = [np.rot90(x, k, axes=(2, 3)) for k in (1, -1)]
    found = [rotated(degrees)(x) for degrees in (90, -90)]
    np.testing.assert_allclose(
        sorted(a.sum(axis=3).tolist() for a in found),
        sorted(a.sum(axis=3).tolist() for a in turns),
        atol=1e-5,
    )
    for name, degrees in (("10 degrees", 10), ("20 degrees", 20)):
        one, other = (move(x) for move in COLUMNS[name])
        np.testing.assert_allclose(one, rotated(degrees)(x), atol=1e-6)
        np.testing.assert_allclose(other, rotated(degrees)(x[..., ::-1])[..., ::-1], atol=1e-5)


def test_a_row_for_each_file_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One network reads light images as 7 and dark ones as 3; the other does the opposite."""
    labels = np.array([3, 7, 3, 1, 7, 3, 0, 3, 9, 9])  # six of the first eight are correct
    images = np.zeros((10, 28, 28), np.uint8)
    images[[1, 4], 10:18, 10:18] = 255
    data = {"digits": SimpleNamespace(test=(images, labels))}
    monkeypatch.setattr(robustness, "load_dataset", data.__getitem__)
    paths = []
    for light, dark in ((7, 3), (3, 7)):
        layer = OutputLayer(784, 10)
        layer.weights[...], layer.bias[0, dark] = 0, 1
        layer.weights[:, light] = 1
        paths.append(tmp_path / f"{light}.npz")
        Network([layer], (1, 28, 28)).save(paths[-1])
    assert robustness.main([*map(str, paths), "--dataset", "digits", "--limit", "8"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading == f"| weights | {' | '.join(COLUMNS)} |"
    for path, accuracy, row in zip(paths, ("75.00", "0.00"), rows, strict=True):
        assert row == f"| {path} | {' | '.join([accuracy] * len(COLUMNS))} |"
