"""The named data sets, with one record of facts for each. Add new ones here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from handcnn.text import DIGITS

SIDE = 28  # height and width of every image in pixels
MAX_CLASSES = 100  # so that labels fit into bytes and a confusion matrix is readable


class OpenML(NamedTuple):
    """A data set at OpenML."""

    name: str
    version: int
    data_id: int
    megabytes: int  # approximate size of the download


@dataclass(frozen=True)
class Known:
    """The facts about a data set.

    Attributes:
        name: its name for `--dataset`.
        title: its name in messages and plots.
        source: where it comes from.
        class_names: the name of each class.
        train_counts: training images of each class; they come first.
        test_counts: test images of each class; they come last.
        validation: how many of the training images are used for validation.
        openml: where to fetch it; None for the set bundled with scikit-learn.
        sha256: of the pixels ("images") and the "labels", as uint8 in the published order; only
            those that are known.
    """

    name: str
    title: str
    source: str
    class_names: tuple[str, ...]
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    validation: int = 5_000
    openml: OpenML | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """The number of all images, training and test."""
        return sum(self.train_counts) + self.test_images

    @property
    def test_images(self) -> int:
        """The number of test images."""
        return sum(self.test_counts)

    @property
    def training_images(self) -> int:
        """The number of training images without those for validation."""
        return sum(self.train_counts) - self.validation


CATALOGUE = {
    known.name: known
    for known in (
        Known(
            name="mnist",
            title="MNIST",
            source="OpenML mnist_784, version 1",
            class_names=DIGITS,
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
            class_names=DIGITS,
            train_counts=(151, 151, 150, 153, 148, 152, 151, 149, 146, 149),
            test_counts=(27, 31, 27, 30, 33, 30, 30, 30, 28, 31),
            validation=250,
        ),
        # Xiao, Rasul, Vollgraf, 2017
        Known(
            name="fashion-mnist",
            title="Fashion-MNIST",
            source="OpenML Fashion-MNIST, version 1",
            class_names=(
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
            class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            train_counts=(6000,) * 10,
            test_counts=(1000,) * 10,
            openml=OpenML("Kuzushiji-MNIST", 1, 41982, megabytes=27),
        ),
    )
}
