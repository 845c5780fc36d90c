"""The data sets that have a name: all that is known of each, in one record. Add another here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

SIDE = 28  # pixels, of every image: high and wide
MOST_CLASSES = 100  # labels are bytes, and a confusion matrix has to be drawn and read


class OpenML(NamedTuple):
    """A data set at OpenML."""

    name: str
    version: int
    data_id: int
    megabytes: int  # about what is transferred


@dataclass(frozen=True)
class Known:
    """What is known of a data set.

    Attributes:
        name: what `--dataset` calls it.
        title: its name in messages and pictures.
        source: where it comes from.
        classes: the name of each class.
        train_counts: images of each class in the training rows, which come first.
        test_counts: images of each class in the test rows.
        validation: how many of the training rows validate.
        openml: where to fetch it; None for what scikit-learn brings along.
        sha256: of the pixels ("images") and the "labels", as uint8 in the published order, as far
            as they are known.
    """

    name: str
    title: str
    source: str
    classes: tuple[str, ...]
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    validation: int = 5_000
    openml: OpenML | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All images, training and test."""
        return sum(self.train_counts) + self.test

    @property
    def test(self) -> int:
        """How many of the last rows test."""
        return sum(self.test_counts)

    @property
    def train(self) -> int:
        """How many images are left to learn from."""
        return sum(self.train_counts) - self.validation


DIGITS = tuple("0123456789")
CATALOGUE = {
    known.name: known
    for known in (
        Known(
            name="mnist",
            title="MNIST",
            source="OpenML mnist_784, version 1",
            classes=DIGITS,
            train_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            test_counts=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
            openml=OpenML("mnist_784", 1, 554, megabytes=15),
            sha256={
                "images": "5b92582eb909c82a9bfefcd44acbe9233be3eb5b419a44cf211022ad2bf4bf96",
                "labels": "671ff9d70b4811116d55c3dd479efa7a981e2e62753ef7a6d5c15fea81e63d27",
            },
        ),
        Known(
            name="digits",
            title="scikit-learn digits (NOT MNIST)",
            source="sklearn.datasets.load_digits",
            classes=DIGITS,
            train_counts=(151, 151, 150, 153, 148, 152, 151, 149, 146, 149),
            test_counts=(27, 31, 27, 30, 33, 30, 30, 30, 28, 31),
            validation=250,
        ),
        # Xiao, Rasul, Vollgraf, 2017
        Known(
            name="fashion-mnist",
            title="Fashion-MNIST",
            source="OpenML Fashion-MNIST, version 1",
            classes=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            train_counts=(6000,) * 10,
            test_counts=(1000,) * 10,
            openml=OpenML("Fashion-MNIST", 1, 40996, megabytes=40),
            sha256={"labels": "8ab940a680640f36c0bf1d2549cb2f3b3d4068c12547116cc7b1161b1d26663d"},
        ),
        # Clanuwat et al., 2018: ten characters of old Japanese handwriting
        Known(
            name="kuzushiji-mnist",
            title="Kuzushiji-MNIST",
            source="OpenML Kuzushiji-MNIST, version 1",
            classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            train_counts=(6000,) * 10,
            test_counts=(1000,) * 10,
            openml=OpenML("Kuzushiji-MNIST", 1, 41982, megabytes=27),
        ),
    )
}
