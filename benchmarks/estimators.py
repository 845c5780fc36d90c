"""CNNClassifier beside scikit-learn's MLPClassifier and SVC: accuracy and seconds in one table.

    python -m benchmarks.estimators            MNIST and the bundled digits
    python -m benchmarks.estimators --quick    does it run? 200 digits, one epoch

Each learns from the training images of a set, and is then asked about its test images. All have
their defaults, but for the SVC's C, which is 10. Its time grows with the square of the images, so
it gets 10,000 at most. Nothing is chosen by these figures.
"""

import argparse
import sys
import time
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from benchmarks import machine
from data import Dataset, load_dataset
from handcnn.app import command_line as cli
from handcnn.estimator import CNNClassifier
from handcnn.types import Array

MOST_FOR_SVC = 10_000
COLUMNS = "| {:7} | {:25} | {:>6} | {:>8} | {:>12} | {:>15} |"
HEADING = ("data", "classifier", "images", "accuracy", "training", "10,000 answers")


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and return the exit code."""
    parser = cli.Parser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 digits, one epoch")
    options = parser.parse(arguments)
    return cli.run("benchmarks.estimators", lambda: compare(options))


def compare(options: argparse.Namespace) -> int:
    """Train all on each set, print a line for each, and write all figures."""
    names, limit = (("digits",), 200) if options.quick else (("digits", "mnist"), None)
    kind = "quick-estimators" if options.quick else "estimators"
    with machine.figures(kind) as figures:
        print(f"\n{COLUMNS.format(*HEADING)}\n|{'---|' * len(HEADING)}")
        for name in names:
            dataset = load_dataset(name, limit=limit)
            for title, classifier in classifiers(options.quick).items():
                figures.append({"classifier": title} | measure(classifier, dataset))
                print(COLUMNS.format(*cells(figures[-1])), flush=True)
    return 0


def classifiers(quick: bool) -> dict[str, Any]:
    """Return what is compared, by its name in the table."""
    epochs = 1 if quick else None
    return {
        "CNNClassifier, documented": CNNClassifier("documented", epochs=epochs, random_state=0),
        "CNNClassifier, lenet": CNNClassifier("lenet", epochs=epochs, random_state=0),
        "MLPClassifier": MLPClassifier(max_iter=epochs or 200, random_state=0),
        "SVC": SVC(C=10),
    }


def measure(classifier: Any, dataset: Dataset) -> dict[str, Any]:
    """Return how accurate a classifier is on a set, and how long it takes."""
    parts = [dataset.train, dataset.test]
    X: Array
    X_test: Array
    X, X_test = (images.reshape(len(images), -1) for images, _ in parts)
    y, y_test = (labels for _, labels in parts)
    if isinstance(classifier, SVC):
        X, y = X[:MOST_FOR_SVC], y[:MOST_FOR_SVC]
    if not isinstance(classifier, CNNClassifier):  # which takes bytes as they are
        X, X_test = X / np.float32(255), X_test / np.float32(255)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of MLPClassifier's 200 epochs
        classifier.fit(X, y)
    trained = time.perf_counter()
    right = classifier.predict(X_test) == y_test
    return {
        "dataset": dataset.name,
        "images": len(X),
        "accuracy": 100 * float(np.mean(right)),
        "training": trained - start,
        "answers": (time.perf_counter() - trained) / len(X_test) * 10_000,
    }


def cells(figures: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    return [
        figures["dataset"],
        figures["classifier"],
        f"{figures['images']:,}",
        f"{figures['accuracy']:.2f} %",
        f"{figures['training']:.1f} s",
        f"{figures['answers']:.2f} s",
    ]


if __name__ == "__main__":
    sys.exit(main())
