"""Compare CNNClassifier with scikit-learn's MLPClassifier and SVC: accuracy and seconds.

    python -m benchmarks.estimators            MNIST and the bundled digits
    python -m benchmarks.estimators --quick    a short test: 200 digits, one epoch

Each is trained on the training images of a data set and scored on its test images. All use their
default parameters, except C = 10 for the SVC. The SVC's time grows with the square of the number of
images, so it gets at most 10,000. The figures are not used to choose anything.
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
from handcnn.commands import command_line as cli
from handcnn.estimator import CNNClassifier
from handcnn.types import Array

MAX_SVC_IMAGES = 10_000
COLUMNS = "| {:7} | {:25} | {:>6} | {:>8} | {:>12} | {:>15} |"
HEADING = ("data", "classifier", "images", "accuracy", "training", "10,000 answers")


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and return the exit code."""
    parser = cli.Parser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 digits, one epoch")
    options = parser.parse(arguments)
    return cli.run("benchmarks.estimators", lambda: compare(options))


def compare(options: argparse.Namespace) -> int:
    """Train each classifier on each data set, print a line for each, and save all figures."""
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
    """Return the classifiers to compare, by their names in the table."""
    epochs = 1 if quick else None
    return {
        "CNNClassifier, documented": CNNClassifier("documented", epochs=epochs, random_state=0),
        "CNNClassifier, lenet": CNNClassifier("lenet", epochs=epochs, random_state=0),
        "MLPClassifier": MLPClassifier(max_iter=epochs or 200, random_state=0),
        "SVC": SVC(C=10),
    }


def measure(classifier: Any, dataset: Dataset) -> dict[str, Any]:
    """Return the accuracy and the times of a classifier on a data set."""
    parts = [dataset.train, dataset.test]
    X: Array
    X_test: Array
    X, X_test = (images.reshape(len(images), -1) for images, _ in parts)
    y, y_test = (labels for _, labels in parts)
    if isinstance(classifier, SVC):
        X, y = X[:MAX_SVC_IMAGES], y[:MAX_SVC_IMAGES]
    if not isinstance(classifier, CNNClassifier):  # CNNClassifier accepts bytes
        X, X_test = X / np.float32(255), X_test / np.float32(255)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # MLPClassifier ends after 200 epochs
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
