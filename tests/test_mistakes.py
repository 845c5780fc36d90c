"""The mistakes of a run that the drawing page offers: their file, and what is in it.

Oracles: the answers of the loaded network, sorted by hand; what was saved.
"""

from pathlib import Path

import numpy as np
import pytest
from damaged_files import Damage, damages, fuzzed
from hypothesis import given

from data import load_dataset
from handcnn import HandcnnError, load_network
from handcnn.storage import runs
from handcnn.storage.mistakes import Mistakes, read_mistakes, save_mistakes
from handcnn.training import worst_mistakes


def examples() -> Mistakes:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    labels, answers, numbers = (np.array(row) for row in ([4, 9, 1], [9, 4, 7], [247, 3, 18]))
    return Mistakes(images, labels, answers, np.array([0.99, 0.7, 0.5]), numbers)


def test_the_worst_are_the_wrong_answers_with_the_highest_probability() -> None:
    labels = np.array([0, 1, 1, 0, 0])
    p = np.array([0.9, 0.6, 0.2, 0.3, 0.6])  # of class 0
    probabilities = np.stack([p, 1 - p], axis=1)
    assert worst_mistakes(labels, probabilities, 5).tolist() == [3, 1]
    assert worst_mistakes(labels, probabilities, 1).tolist() == [3]


def test_a_run_saves_its_worst_test_images(finished: Path) -> None:
    mistakes = read_mistakes(finished / runs.MISTAKES, classes=10)
    test = load_dataset("digits", seed=1, limit=160).test
    x = test.images[:, None].astype(np.float32) / np.float32(255)
    p = load_network(finished / runs.WEIGHTS).predict_proba(x)
    wrong = [i for i, row in enumerate(p) if row.argmax() != test.labels[i]]
    worst = sorted(wrong, key=lambda i: -p[i].max())[:24]
    assert len(worst) > 2
    assert mistakes.numbers.tolist() == worst
    assert (mistakes.images == test.images[worst]).all()
    assert mistakes.labels.tolist() == test.labels[worst].tolist()
    assert mistakes.answers.tolist() == p[worst].argmax(axis=1).tolist()
    np.testing.assert_allclose(mistakes.probabilities, p[worst].max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("count", [0, 3])
def test_they_come_back_as_they_were(tmp_path: Path, count: int) -> None:
    few = Mistakes(*(array[:count] for array in examples()))
    save_mistakes(tmp_path / "mistakes.npz", few)
    for found, saved in zip(read_mistakes(tmp_path / "mistakes.npz", 10), few, strict=True):
        assert found.shape == saved.shape
        assert (found == saved).all()


def test_a_class_that_the_network_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.npz"
    save_mistakes(path, examples())
    fault = f"{path} cannot be used: it names a class that is not one of the network's 9"
    with pytest.raises(HandcnnError) as refusal:
        read_mistakes(path, 9)
    assert str(refusal.value) == fault


@fuzzed()
@given(damage=damages())
def test_a_damaged_file_is_refused_in_a_sentence_or_reads_well(
    damage: Damage, tmp_path: Path
) -> None:
    path = tmp_path / "mistakes.npz"
    save_mistakes(path, examples())
    path.write_bytes(damage(path.read_bytes()))
    message, mistakes = "", examples()
    try:
        mistakes = read_mistakes(path, 10)
    except HandcnnError as error:
        message = str(error)
    assert not message or message.startswith((f"{path} ", f"cannot read {path}"))
    assert "\n" not in message
    assert all(len(array) == len(mistakes.images) for array in mistakes)
    assert ((mistakes.labels >= 0) & (mistakes.labels < 10)).all()
