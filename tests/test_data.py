"""The data set's parts, its batches and the small digits.

Oracles: counting (every sample once, labels with their images); arithmetic by hand (bytes divided
by 255); properties of every digit in the form of MNIST; and, for the real MNIST, the published
class counts and the SHA-256 of its files.
"""

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.datasets import load_digits

from data import Batches, Dataset, load_dataset, one_hot
from data.__main__ import main
from data.catalogue import CATALOGUE
from data.digits import draw_like_mnist, load_digits_like_mnist
from data.download_cache import data_file
from data.loading import CACHE
from handcnn import HandcnnError
from handcnn.pictures import prepare_picture


def quiet(message: str) -> None:
    pass


# --- batches -------------------------------------------------------------------------------------


def numbered(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images with their own number in two pixels, and labels computed from it."""
    numbers = np.arange(count)
    images = np.zeros((count, 2, 3), np.uint8)
    images[:, 0, 0], images[:, 1, 2] = numbers % 256, numbers // 256
    return images, (numbers * 7 % classes).astype(np.uint8)


def numbers_in(x: np.ndarray) -> np.ndarray:
    numbers: np.ndarray = np.rint(x[:, 0, 0, 0] * 255 + 256 * 255 * x[:, 0, 1, 2]).astype(int)
    return numbers


@given(
    count=st.integers(0, 600),
    batch_size=st.integers(1, 700),
    classes=st.integers(1, 12),
    seed=st.none() | st.integers(0, 99),
)
def test_every_sample_once_with_its_label(
    count: int, batch_size: int, classes: int, seed: int | None
) -> None:
    images, labels = numbered(count, classes)
    images.flags.writeable = labels.flags.writeable = False
    rng = None if seed is None else np.random.default_rng(seed)
    batches = Batches(images, labels, batch_size, rng, classes=classes)
    for _ in range(2):
        found = list(batches)
        assert len(found) == len(batches)
        sizes = [len(x) for x, _ in found]
        assert sizes == [batch_size] * (count // batch_size) + [count % batch_size] * (
            count % batch_size > 0
        )
        numbers = [int(n) for x, _ in found for n in numbers_in(x)]
        assert sorted(numbers) == list(range(count))
        assert seed is not None or numbers == list(range(count))
        for x, y in found:
            assert x.shape[1:] == (1, 2, 3)
            assert x.dtype == y.dtype == np.float32
            assert y.shape == (len(x), classes)
            assert y.sum(axis=1).tolist() == [1] * len(x)
            assert y.argmax(axis=1).tolist() == [n * 7 % classes for n in numbers_in(x)]


def test_order_is_new_each_epoch_and_the_same_for_the_same_seed() -> None:
    images, labels = numbered(300, 10)

    def two_epochs(seed: int) -> list[list[int]]:
        batches = Batches(images, labels, 64, np.random.default_rng(seed))
        return [[int(n) for x, _ in batches for n in numbers_in(x)] for _ in range(2)]

    first, second = two_epochs(3)
    assert first != second
    assert two_epochs(3) == [first, second]
    assert two_epochs(4)[0] != first
    # Samples are shuffled, not the starts of batches.
    assert max(np.bincount(np.array(first[:64]) // 64)) < 64


def test_bytes_become_fractions() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    ((x, _),) = Batches(images, np.zeros(1, np.uint8), 8)
    assert x.ravel().tolist() == [float(np.float32(n / 255)) for n in range(256)]
    assert (x.min(), x.max()) == (0, 1)


IMAGES, LABELS = numbered(5, 3)
BAD_BATCHES = [
    (
        (IMAGES / 255, LABELS, 2),
        "Batches expects images of shape (N, H, W) and dtype uint8, got (5, 2, 3) and float64",
    ),
    (
        (IMAGES[:, None], LABELS, 2),
        "Batches expects images of shape (N, H, W) and dtype uint8, got (5, 1, 2, 3) and uint8",
    ),
    (
        (IMAGES, LABELS[:4], 2),
        "Batches expects a label per image, got 5 images and labels of shape (4,)",
    ),
    ((IMAGES, LABELS, 0), "Batches expects a batch_size of at least 1, got 0"),
    (
        (IMAGES, LABELS + 9, 2),
        "labels must lie in 0..9, got 9..11; give the number of classes",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_BATCHES)
def test_batches_refuse_in_one_sentence(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared whole
        Batches(*arguments)
    assert str(caught.value) == message


def test_one_hot() -> None:
    assert one_hot(np.array([2, 0]), classes=3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot(np.array([], dtype=int)).shape == (0, 10)
    assert one_hot(np.array([1]), dtype=np.float64).dtype == np.float64
    for bad in ([-1, 2], [0, 10]):
        with pytest.raises(ValueError, match=r"^labels must lie in 0\.\.9, got "):
            one_hot(np.array(bad))
    for other in ([True, False, True], [1.0, 2.0], ["1"]):
        labels, images = np.array(other), np.zeros((len(other), 2, 2), np.uint8)
        for refused in (partial(one_hot, labels), partial(Batches, images, labels, 1)):
            with pytest.raises(ValueError, match="labels must be whole numbers, got "):
                refused()


# --- the digits ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", say=quiet)


def test_digits_are_drawn_the_way_of_mnist() -> None:
    images, labels = load_digits_like_mnist()
    assert images.shape == (1797, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert labels.tolist() == load_digits().target.tolist()
    assert (images.max((1, 2)) == 255).all()
    for image in images:
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        centre = ndimage.center_of_mass(image.astype(float))
        np.testing.assert_allclose(centre, (14, 14), atol=0.5 + 1e-9)  # shifted by whole pixels


def test_a_network_trained_on_the_digits_is_asked_about_pictures_drawn_alike() -> None:
    images, _ = load_digits_like_mnist()
    for image in images:
        np.testing.assert_array_equal(prepare_picture(image), image)
        np.testing.assert_array_equal(prepare_picture(255 - image), image)


def test_digits_stay_the_digits_they_were() -> None:
    """The original, enlarged by repeating pixels, matches the result at some position."""
    nearest = np.arange(20) * 8 // 20
    originals = load_digits().images[:60]
    for image, original in zip(draw_like_mnist(originals), originals, strict=True):
        big = original[nearest][:, nearest]
        windows = np.lib.stride_tricks.sliding_window_view(image, (20, 20)).reshape(81, 400)
        best = max(np.corrcoef(big.ravel(), window)[0, 1] for window in windows if window.any())
        assert best > 0.85


def test_a_lone_dot_can_be_drawn() -> None:
    images = np.zeros((1, 8, 8))
    images[0, 0, 0] = 16
    before = images.copy()
    drawn = draw_like_mnist(images)
    assert (drawn[0].max(), drawn[0, 14, 14]) == (255, 255)
    np.testing.assert_array_equal(images, before)


def test_digits_parts(digits: Dataset) -> None:
    images, labels = load_digits_like_mnist()
    assert digits.name == "digits"
    assert digits.record == {
        "dataset": "digits",
        "source": "sklearn.datasets.load_digits",
        "sizes": {"train": 1250, "validation": 250, "test": 297},
        "classes": 10,
        "class_names": list("0123456789"),
        "preparation": "digits",
        "background": "dark",
        "split_seed": 0,
        "limit": None,
        "sha256": {
            "images": sha256(images.tobytes()).hexdigest(),
            "labels": sha256(labels.tobytes()).hexdigest(),
        },
        "published_mnist": False,
    }
    np.testing.assert_array_equal(digits.test.images, images[-297:])
    np.testing.assert_array_equal(digits.test.labels, labels[-297:])
    # Training and validation are the other rows, each once, with its label.
    parts = (digits.train, digits.validation)
    found = [(i.tobytes(), n) for part in parts for i, n in zip(*part, strict=True)]
    rest = [(i.tobytes(), n) for i, n in zip(images[:-297], labels[:-297], strict=True)]
    assert sorted(found) == sorted(rest)
    assert found != rest


def test_split_follows_the_seed(digits: Dataset) -> None:
    same, other = (load_dataset("digits", seed=seed, say=quiet) for seed in (0, 1))
    np.testing.assert_array_equal(same.validation.images, digits.validation.images)
    assert not np.array_equal(other.validation.images, digits.validation.images)
    np.testing.assert_array_equal(other.test.images, digits.test.images)


def test_limit_keeps_the_first_training_images(digits: Dataset) -> None:
    few = load_dataset("digits", limit=70, say=quiet)
    np.testing.assert_array_equal(few.train.images, digits.train.images[:70])
    np.testing.assert_array_equal(few.train.labels, digits.train.labels[:70])
    np.testing.assert_array_equal(few.validation.images, digits.validation.images)
    np.testing.assert_array_equal(few.test.images, digits.test.images)
    assert (few.record["limit"], few.record["sizes"]["train"]) == (70, 70)


@pytest.mark.parametrize("limit", [0, -3, 1251, 60000])
def test_limit_that_cannot_be_kept(limit: int) -> None:
    with pytest.raises(HandcnnError) as caught:
        load_dataset("digits", limit=limit, say=quiet)
    assert str(caught.value) == (
        f"cannot keep {limit:,} training images: digits has 1,250; choose a limit from 1 to 1,250"
    )


@pytest.mark.parametrize("name", ["minst", ""])
def test_unknown_name(name: str) -> None:
    with pytest.raises(HandcnnError) as caught:
        load_dataset(name)
    assert str(caught.value) == (
        f"unknown dataset {name!r}; choose one of auto, {', '.join(CATALOGUE)}, or give a path"
    )


@pytest.mark.parametrize("name", ["x" * 5000, "a/b\0c", "\x1b[31m/x"])
def test_what_can_be_no_path(name: str) -> None:
    with pytest.raises(HandcnnError) as caught:
        load_dataset(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


def test_python_m_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["data", "digits"])
    assert main() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "scikit-learn digits (NOT MNIST) is available and checked: 1,250 train, 250 validation, "
        "297 test images, loaded in "
    )
    assert second == "classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


# --- the real MNIST ------------------------------------------------------------------------------


@pytest.mark.mnist
def test_the_real_mnist(tmp_path: Path) -> None:
    from sklearn.datasets import get_data_home

    downloads = Path(get_data_home()) / "openml" / "openml.org"
    if (CACHE / "mnist.npz").exists():
        cache = CACHE
    elif data_file(downloads, CATALOGUE["mnist"]):
        cache = tmp_path
    else:
        pytest.skip("MNIST is neither in data/cache nor in scikit-learn's download cache")
    mnist = load_dataset("mnist", cache_dir=cache, say=quiet)
    assert mnist.record["published_mnist"] is True
    assert mnist.record["sizes"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    counts = np.bincount(mnist.train.labels) + np.bincount(mnist.validation.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    tested = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.test.labels).tolist() == tested
