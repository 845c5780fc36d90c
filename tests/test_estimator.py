"""CNNClassifier in scikit-learn.

Oracles: scikit-learn's own checks; MLPClassifier, which must behave the same in the same cases; the
training written out with the network's three calls; predict.py and train.py for their files.
"""

import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import pytest
from builders import compare, literal_step, refused
from matplotlib.figure import Figure
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from data.digits import load_digits_like_mnist
from handcnn import (
    HandcnnError,
    HiddenLayer,
    Network,
    OutputLayer,
    documented_network,
    load_network,
    loss_function,
    loss_gradient,
)
from handcnn.augmentation import AUGMENTATIONS, distort
from handcnn.commands import predict
from handcnn.estimator import CNNClassifier
from handcnn.models import MIN_STEPS, NETWORKS, RECIPES
from handcnn.schedule import SCHEDULES, learning_rates
from handcnn.types import Array, Shape

ROOT = Path(__file__).parents[1]
SEVEN = ROOT / "docs" / "seven.jpg"
# 0, 1 and 2 of scikit-learn's digits: 8x8 pixels of 0 to 16.
DIGITS, LABELS = (part[load_digits().target < 3] for part in load_digits(return_X_y=True))
X, y = DIGITS[:200].astype(np.float32), LABELS[:200]
X_TEST, Y_TEST = DIGITS[200:].astype(np.float32), LABELS[200:]

SEED = np.random.RandomState(0).randint(2**31)  # the seed that random_state=0 produces


def small(rate: float, *, input_shape: Shape, classes: int, rng: Any, dtype: Any) -> Network:
    """Return a network that trains fast."""
    features = int(np.prod(input_shape))
    layers = [
        HiddenLayer(features, 16, rate, rng=rng, dtype=dtype),
        OutputLayer(16, classes, rate, rng=rng, dtype=dtype),
    ]
    for layer in layers:
        layer.weights *= 10
    return Network(layers, input_shape)


def cnn(epochs: int = 20, **parameters: Any) -> CNNClassifier:
    defaults = {"epochs": epochs, "learning_rate": 0.01, "random_state": 0, "threads": 1}
    return CNNClassifier(small, **defaults | parameters)


def mlp(epochs: int = 20, **parameters: Any) -> MLPClassifier:
    defaults = {"learning_rate_init": 0.01, "random_state": 0}
    return MLPClassifier(max_iter=epochs, **defaults | parameters)


# scikit-learn's own checks -----------------------------------------------------------------------


@pytest.mark.slow
@parametrize_with_checks([CNNClassifier()])  # type: ignore[untyped-decorator]
def test_scikit_learn_checks(
    estimator: CNNClassifier, check: Callable[[CNNClassifier], None]
) -> None:
    check(estimator)


def test_the_check_that_needs_a_setting_of_scipy() -> None:
    """The setting must be made before SciPy is imported."""
    pytest.importorskip("scipy", "1.14", reason="it needs SciPy 1.14")
    code = (
        "from sklearn.utils.estimator_checks import check_array_api_input as check\n"
        "from handcnn.estimator import CNNClassifier as C\n"
        "check('CNNClassifier', C(epochs=2), 'numpy', expect_only_array_outputs=False)"
    )
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


# As in MLPClassifier -----------------------------------------------------------------------------


def warm_starts(make: Callable[..., Any], folder: Path) -> object:
    facts = []
    for early_stopping in (False, True):
        one = make(3, warm_start=True, early_stopping=early_stopping)
        for _ in range(2):
            one.fit(X, y)
            facts += [one.n_iter_, len(one.loss_curve_), len(one.validation_scores_ or [])]
    return facts


def partial_fits(make: Callable[..., Any], folder: Path) -> object:
    """Start with a batch that does not contain all classes."""
    one, two = make(), y < 2
    facts = [
        (one.partial_fit(*batch), one.n_iter_, len(one.loss_curve_), one.classes_.tolist())[1:]
        for batch in ((X[two], y[two], *classes(one, [2, 1, 0])), (X, y), (X, y))
    ]
    return facts, one.predict_proba(X).shape, one.score(X, y) > 0.5


def classes(one: Any, labels: list[int]) -> tuple[Any, ...]:
    """Return the third argument of `partial_fit`: as in SGDClassifier, not as in MLPClassifier."""
    return (labels,) if isinstance(one, CNNClassifier) else (None, labels)


def stopping_early(make: Callable[..., Any], folder: Path) -> object:
    """Train for so many epochs that early stopping must end it."""
    one = make(500, early_stopping=True, n_iter_no_change=5, validation_fraction=0.2).fit(X, y)
    scores = one.validation_scores_
    return (
        len(scores) == len(one.loss_curve_) == one.n_iter_ < 500,
        one.best_validation_score_ == max(scores),
        make().fit(X, y).validation_scores_,
    )


def labels_of_any_kind(make: Callable[..., Any], folder: Path) -> object:
    facts = []
    texts = ["zero", "one", "two"]
    for names in (texts, [-5, 7, 3], [0.0, 2.0, 1.0], [True, False, True], np.array(texts, object)):
        one = make(3).fit(X, np.array(names)[y])
        facts += [one.classes_.tolist(), one.classes_.dtype, one.predict(X).dtype]
    return facts


def what_is_printed(make: Callable[..., Any], folder: Path) -> object:
    """Return the output without the numbers."""
    with redirect_stdout(io.StringIO()) as printed:
        make(3, verbose=True).fit(X, y)
        make(3, verbose=True, early_stopping=True).fit(X, y)
    return re.sub(r"\d+\.(\d+)", lambda number: "#" * len(number[1]), printed.getvalue())


def in_a_pipeline(make: Callable[..., Any], folder: Path) -> object:
    pipeline = make_pipeline(StandardScaler(), make()).fit(X, y).set_output(transform="default")
    return pipeline.score(X_TEST, Y_TEST) > 0.9, hasattr(make(), "set_output")


def cross_validated(make: Callable[..., Any], folder: Path) -> object:
    scores = cross_val_score(make(), X, y, cv=3)
    return scores.shape, scores.mean() > 0.9


def in_a_grid(make: Callable[..., Any], folder: Path) -> object:
    grid = GridSearchCV(make(), {"batch_size": [8, 64], "warm_start": [False]}, cv=2).fit(X, y)
    return sorted(grid.best_params_), grid.classes_.tolist(), grid.score(X_TEST, Y_TEST) > 0.9


def learning_curves(make: Callable[..., Any], folder: Path) -> object:
    grow = {"train_sizes": [40, 80], "cv": 2, "shuffle": True, "random_state": 0}
    whole = learning_curve(make(), X, y, **grow)
    steps = learning_curve(make(), X, y, exploit_incremental_learning=True, **grow)
    return [(part.shape, part.dtype) for part in whole + steps], whole[2].mean() > 0.8


def confusion_matrices(make: Callable[..., Any], folder: Path) -> object:
    shown = ConfusionMatrixDisplay.from_estimator(make().fit(X, y), X, y, ax=Figure().subplots())
    return shown.confusion_matrix.sum(), shown.display_labels.tolist()


def calibrated(make: Callable[..., Any], folder: Path) -> object:
    one = CalibratedClassifierCV(make(), cv=2).fit(X, y, sample_weight=np.ones(len(X)))
    probabilities = one.predict_proba(X_TEST)
    return probabilities.shape, one.classes_.tolist(), one.score(X_TEST, Y_TEST) > 0.9


def cloned_and_pickled(make: Callable[..., Any], folder: Path) -> object:
    one = make(warm_start=True).fit(X, y)
    joblib.dump(one, folder / "one.joblib")
    other = joblib.load(folder / "one.joblib")
    same = np.array_equal(other.predict_proba(X), one.predict_proba(X))
    for each in (one, other):  # both continue in the same way
        each.set_params(random_state=1).partial_fit(X, y)
    went_on = np.array_equal(other.predict_proba(X), one.predict_proba(X))
    fresh = clone(one)
    try:
        fresh.predict(X)
    except NotFittedError:
        return same, went_on, fresh.get_params() == one.get_params()
    return "not reached"


def weights_of_zero(make: Callable[..., Any], folder: Path) -> object:
    """All images of the digit 0 have weight 0, so they are read as 1."""
    y_two = y[y < 2]
    one = make().fit(X[y < 2], y_two, sample_weight=np.where(y_two == 0, 0.0, 1.0))
    return one.predict(X[y < 2]).tolist(), one.classes_.tolist()


def probabilities(make: Callable[..., Any], folder: Path) -> object:
    one = make().fit(X, y)
    log, plain = one.predict_log_proba(X_TEST), one.predict_proba(X_TEST)
    return (
        np.allclose(plain.sum(axis=1), 1),
        np.array_equal(log, np.log(plain)),
        np.array_equal(one.classes_[plain.argmax(axis=1)], one.predict(X_TEST)),
        plain.dtype,
        make(2).fit(X.astype(float), y).predict_proba(X).dtype,
    )


def interrupted(make: Callable[..., Any], folder: Path) -> object:
    """By Ctrl-C. `fit` returns with the weights trained so far."""
    printing = mock.patch("builtins.print", side_effect=[None, None, KeyboardInterrupt])
    with printing, pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        one = make(verbose=True).fit(X, y)
    return one.n_iter_, len(one.loss_curve_), one.predict(X).shape


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "use",
    [
        warm_starts,
        partial_fits,
        stopping_early,
        labels_of_any_kind,
        what_is_printed,
        in_a_pipeline,
        cross_validated,
        in_a_grid,
        learning_curves,
        confusion_matrices,
        calibrated,
        cloned_and_pickled,
        weights_of_zero,
        probabilities,
        interrupted,
    ],
)
def test_what_mlpclassifier_does(use: Callable[..., object], tmp_path: Path) -> None:
    assert use(cnn, tmp_path) == use(mlp, tmp_path)


# Training ----------------------------------------------------------------------------------------


def test_training_is_the_documented_loop() -> None:
    """With scaled bytes, shuffled batches, distortions and a schedule.

    Three classes are not the ten digits, so "handwriting" only distorts.
    """
    images, epochs = (X * 15).astype(np.uint8).reshape(-1, 1, 8, 8), 3
    one = CNNClassifier("lenet", epochs=epochs, batch_size=64, random_state=0, threads=1)
    one.set_params(network=small, learning_rate=0.01, schedule="cosine", augment="handwriting")
    one.fit(images, y)

    rng = np.random.default_rng(SEED)
    net = small(0.01, input_shape=(1, 8, 8), classes=3, rng=rng, dtype=np.float32)
    losses = []
    for epoch in range(1, epochs + 1):
        order, loss = rng.permutation(len(X)), 0.0
        rates = learning_rates("cosine", 0.01, epoch, epochs, 4)
        for rate, start in zip(rates, range(0, len(X), 64), strict=True):
            batch = order[start : start + 64]
            x, y_true = images[batch] / np.float32(255), np.eye(3, dtype=np.float32)[y[batch]]
            net.set_learning_rate(rate)
            y_pred = literal_step(net, distort(x, y_true, rng), y_true)
            loss += loss_function(y_pred, y_true) * len(batch)
        losses.append(loss / len(X))
    compare(one.network_.parameters(), net.parameters(), 1e-5)
    np.testing.assert_allclose(one.loss_curve_, losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "adds_strokes"),
    [(np.arange(10), True), (np.array(list("0123456789")), True), (np.arange(1, 11), False)],
)
def test_only_the_ten_digits_are_trained_with_strokes(labels: Array, adds_strokes: bool) -> None:
    """Whatever the type of their labels."""
    digits, numbers = load_digits_like_mnist()
    networks = [
        CNNClassifier(small, epochs=1, augment=augment, random_state=0, threads=1)
        .fit(digits[:200], labels[numbers[:200]])
        .network_
        for augment in ("handwriting", "distort")
    ]
    one, other = (net.parameters().values() for net in networks)
    differ = [(a != b).any() for a, b in zip(one, other, strict=True)]
    assert any(differ) == adds_strokes


def test_weights_scale_the_rows_of_the_gradient() -> None:
    """With all images in one batch, so that their order does not matter."""
    weights = np.random.default_rng(1).integers(0, 4, len(X)).astype(float)
    one = cnn(2, batch_size=1000).fit(X, y, weights)
    counted = weights > 0
    x, y_true = X[counted].reshape(-1, 1, 8, 8) / 16, np.eye(3)[y[counted]]
    weights = weights[counted]
    rng = np.random.default_rng(SEED)
    net = small(0.01, input_shape=(1, 8, 8), classes=3, rng=rng, dtype=np.float32)
    losses = []
    for _ in range(2):
        y_pred = net.forward(x)
        net.backward(weights[:, None] * loss_gradient(y_pred, y_true))
        net.update_params()
        logarithms = np.log(y_pred[np.arange(len(x)), y[counted]])
        losses.append(-(weights * logarithms).sum() / weights.sum())
    compare(one.network_.parameters(), net.parameters(), 1e-4)
    np.testing.assert_allclose(one.loss_curve_, losses, rtol=1e-4)


def test_weights_of_classes_multiply_those_of_images() -> None:
    """A missing class has 1, one number is for all images, "balanced" gives equal sums."""
    images, labels, weights = X[:90], np.array(["a", "b", "c"])[y[:90]], np.arange(90) % 3.0
    few = {"a": 2.0, "c": 0.0}
    sums = {label: weights[labels == label].sum() for label in "abc"}
    balanced = {label: weights.sum() / 3 / total for label, total in sums.items()}
    for class_weight, same in ((few, few), ("balanced", balanced)):
        factors = np.array([same.get(label, 1) for label in labels])
        one = cnn(2, class_weight=class_weight).fit(images, labels, weights)
        two = cnn(2).fit(images, labels, weights * factors)
        compare(one.network_.parameters(), two.network_.parameters(), 1e-5)
    one, two = cnn(2).fit(images, labels, 2), cnn(2).fit(images, labels, np.full(90, 2.0))
    compare(one.network_.parameters(), two.network_.parameters(), 1e-12)
    alone = cnn(2, class_weight=few).partial_fit(images, labels, list("abc"))
    assert set(alone.predict(images)) <= {"a", "b"}


def test_balanced_classes_are_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 1, 2], [100, 60, 40])
    given = dict(enumerate(compute_class_weight("balanced", classes=np.arange(3), y=labels)))
    one, two = (cnn(2, class_weight=way).fit(X, labels) for way in ("balanced", given))
    compare(one.network_.parameters(), two.network_.parameters(), 1e-6)


def test_weights_too_small_for_float32_do_not_count() -> None:
    one = cnn(2).fit(X, y, np.where(y == 0, 1e-50, 1))
    two = cnn(2).fit(X, y, np.where(y == 0, 0, 1))
    compare(one.network_.parameters(), two.network_.parameters(), 1e-12)


def test_on_epoch_hears_of_every_epoch() -> None:
    heard: list[tuple[Any, ...]] = []
    one = cnn(3, on_epoch=lambda *facts: heard.append(facts)).fit(X, y)
    assert heard == [(n, loss, None) for n, loss in enumerate(one.loss_curve_, start=1)]
    heard.clear()
    one.set_params(early_stopping=True, epochs=40, n_iter_no_change=2).fit(X, y)
    scores = one.validation_scores_ or []
    assert heard == list(zip(range(1, one.n_iter_ + 1), one.loss_curve_, scores, strict=True))


def no_more(epoch: int, loss: float, score: float | None) -> None:
    if epoch == 2:
        raise MemoryError


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    ("change", "images", "labels", "error"),
    [
        ({"learning_rate": 1e30}, X, y, HandcnnError),
        ({"on_epoch": no_more}, X, y, MemoryError),
        ({}, X, y + 1.5, ValueError),
        ({"early_stopping": True}, X[:5], y[:5], ValueError),
        ({"network": "lenet"}, X, y, ValueError),
        ({"image_shape": (7, 9)}, X, y, ValueError),
        ({"class_weight": {9: 1}}, X, y, ValueError),
    ],
)
def test_a_failed_fit_changes_nothing(
    warm_start: bool, change: dict[str, Any], images: Array, labels: Array, error: Any
) -> None:
    fresh = cnn(3, warm_start=warm_start).set_params(**change)
    with pytest.raises(error):
        fresh.fit(images, labels)
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    one, twin = (cnn(3, warm_start=warm_start).fit(X, y) for _ in range(2))
    calm = {name: one.get_params()[name] for name in change}
    one.set_params(**change)
    for attempt in (one.fit, one.partial_fit):
        if attempt == one.partial_fit and "on_epoch" in change:
            continue  # it has no second epoch
        with pytest.raises(error):
            attempt(images, labels)
    one.set_params(**calm)
    for each in (one, twin):
        each.partial_fit(X, y)
    assert one.loss_curve_ == twin.loss_curve_
    np.testing.assert_array_equal(one.predict_proba(X), twin.predict_proba(X))


def test_whole_numbers_above_2_to_the_53_stay_apart() -> None:
    """Even if the classes are of another type than the labels."""
    numbers = [2**53, 2**53 + 1, 2**53 + 2]
    labels = np.array(numbers, np.uint64)[y]
    one = cnn(2).partial_fit(X, labels, np.array(numbers, np.int64))
    compare(one.network_.parameters(), cnn(2).partial_fit(X, y, [0, 1, 2]).network_.parameters())
    assert refused(lambda: one.partial_fit(X, labels + np.uint64(1))) == (
        f"y has the labels [{2**53 + 3}], but the classes are {np.array(numbers)}"
    )


def test_the_label_of_a_class_of_one_image_is_named() -> None:
    few = cnn(1, early_stopping=True)
    assert "77" in refused(lambda: few.fit(X[:9], [77, *[88] * 8]))


@pytest.mark.parametrize("network", NETWORKS)
def test_each_network_brings_its_recipe(network: str) -> None:
    """Including its epochs, but at least 2,000 steps. The function of that name does the same."""
    recipe = RECIPES[network]
    seen: list[tuple[Any, ...]] = []

    def rates(*arguments: Any) -> list[float]:
        seen.append(arguments)
        raise KeyboardInterrupt

    for images in (100, 6400):
        few = np.zeros((images, 28, 28), np.uint8)
        labels = np.arange(images) % 2
        with mock.patch("handcnn.training.learning_rates", rates):
            for one in (CNNClassifier(network), CNNClassifier(NETWORKS[network])):
                with pytest.warns(UserWarning, match="interrupted"):
                    one.fit(few, labels)
        steps = -(-images // recipe.batch_size)
        epochs = max(recipe.epochs, -(-MIN_STEPS // steps))
        expected = (recipe.schedule, recipe.learning_rate, 1, epochs, steps)
        assert seen == [expected, expected]
        seen.clear()


def test_two_in_two_threads_learn_what_they_learn_one_after_the_other() -> None:
    """Each with its own two threads, in a network that splits its images between them."""
    images = np.random.default_rng(0).random((128, 20, 20), np.float32)

    def trained(seed: int) -> list[Array]:
        one = CNNClassifier("lenet", epochs=2, random_state=seed, threads=2)
        one.fit(images, np.arange(128) % 4)
        return [*one.network_.parameters().values(), one.predict_proba(images)]

    alone = [trained(seed) for seed in (0, 1)]
    at_once = joblib.Parallel(2, backend="threading")(joblib.delayed(trained)(i) for i in (0, 1))
    for one, other in zip(alone, at_once, strict=True):
        for array, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, same)
    assert not np.array_equal(alone[0][0], alone[1][0])


@pytest.mark.parametrize(
    ("allowed", "given", "threads"),
    [
        (None, None, 2),
        ("1", None, 1),
        ("8", None, 2),
        ("1", 2, 2),
        ("0", None, 1),
        ("4,2", None, 2),
    ],
)
def test_how_many_threads(
    allowed: str | None, given: int | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joblib and Dask set OMP_NUM_THREADS to the number that a worker may use."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if allowed is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    monkeypatch.setattr("handcnn.estimator.classifier.default_threads", lambda: 2)
    opened: list[int] = []

    def use(count: int) -> Any:
        opened.append(count)
        return nullcontext()

    monkeypatch.setattr("handcnn.estimator.classifier.use_threads", use)
    cnn(1, threads=given).fit(X, y).predict(X)
    assert opened == [threads, threads]


# Images of any kind ------------------------------------------------------------------------------

BYTES = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6), np.uint8)
HALVES = (BYTES.reshape(60, -1).mean(axis=1) > 127).astype(int)


def test_bytes_and_fractions_are_read_alike() -> None:
    """As rows and as images, no matter which of them the network was trained on."""
    fractions = BYTES / np.float32(255)
    kinds = [BYTES, BYTES[:, 0], BYTES.reshape(60, 36), BYTES.astype(np.int64), BYTES.astype("f4")]
    kinds += [fractions, fractions[:, 0], fractions.reshape(60, 36)]
    learned = [cnn(3).fit(kind, HALVES) for kind in kinds]
    for one in learned:
        assert one.image_shape_ == (1, 6, 6)
        assert one.n_features_in_ == 36
        compare(one.network_.parameters(), learned[0].network_.parameters(), 1e-5)
        readable = kinds if one.scale_ == 255 else [*kinds[:3], *kinds[5:]]
        for kind in readable:
            np.testing.assert_allclose(
                one.predict_proba(kind), learned[0].predict_proba(BYTES), rtol=1e-5
            )


@pytest.mark.parametrize(
    ("X", "scale"),
    [
        (np.array([[0, 3], [2, 1]], np.uint8), 255),
        (np.array([[0, 1], [1, 1]], np.uint8), 1),
        (np.array([[False, True], [True, True]]), 1),
        ([[0, 3], [2, 1]], 3),
        ([[0.0, 0.3], [0.2, 0.1]], 1),
        ([[0.0, 16.0], [2.0, 1.0]], 16),
        ([[-0.5, 0.5], [0.25, 1.0]], 1),
        ([[-30.0, 30.0], [30.0, -30.0]], 30),
        (np.array([[0, 1e20], [1e20, 2]], np.float32), np.float32(1e20)),
        (np.array([[-1e20, 1e20], [1e20, -1e20]], np.float32), np.float32(1e20)),
        ([[-1e20, -1e20], [-1e20, -1e20]], 1e20),
        ([[-1e300, 1e300], [1e300, -1e300]], 1e300),
    ],
)
def test_the_scale(X: Any, scale: float, tmp_path: Path) -> None:
    one = cnn(1).fit(X, [0, 1])
    assert one.scale_ == scale
    assert np.abs(one._scale.images(np.asarray(X))).max() <= 1
    one.save(tmp_path / "w.npz")
    two = CNNClassifier.load(tmp_path / "w.npz")
    np.testing.assert_array_equal(two.predict_proba(X), one.predict_proba(X))


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(float).max, reason="no wider floats")
def test_numbers_beyond_float64_are_refused() -> None:
    X = np.full((2, 4), np.longdouble("1e4000"))
    assert (
        refused(lambda: cnn(1).fit(X, [0, 1])) == "X has values that are too large to compute with"
    )


FRACTIONS = np.random.default_rng(0).random((20, 36), np.float32)
FRACTIONS[0, 0] = 1


@pytest.mark.parametrize(
    ("learned", "asked", "message"),
    [
        (FRACTIONS, FRACTIONS * 255, "X has values up to 255, but is divided by 1, as"),
        (FRACTIONS, (FRACTIONS * 255).astype(int), "X has values up to 255, but is divided by 1"),
        (FRACTIONS, FRACTIONS * 16, "X has values up to 16, but is divided by 1"),
        (FRACTIONS * 16, FRACTIONS, "X has values up to 1, but is divided by 16"),
        ((FRACTIONS * 254).astype(int), FRACTIONS, "X has values up to 1, but is divided by 254"),
        (FRACTIONS * 16, FRACTIONS * 255, "X has values up to 255, but is divided by 16"),
        (FRACTIONS * 255, FRACTIONS * 65535, "X has values up to 65535, but is divided by 255"),
        (FRACTIONS - 0.5, FRACTIONS * 255, "X has values up to 255, but is divided by 1"),
    ],
)
def test_another_scale_than_in_fit_is_remarked(learned: Array, asked: Array, message: str) -> None:
    one = cnn(1).fit(learned, np.arange(20) % 2)
    for use in (one.predict, partial(one.partial_fit, y=np.arange(20) % 2)):
        with pytest.warns(UserWarning, match=message):
            use(asked)


def test_a_similar_scale_is_not_remarked() -> None:
    """Warnings are errors in the tests."""
    for learned, asked in (
        (FRACTIONS, FRACTIONS * 1.3),  # as MinMaxScaler makes of new images
        (FRACTIONS * 255, FRACTIONS * 9),  # nearly black
        (FRACTIONS * 16, FRACTIONS * 0),
        (FRACTIONS - 0.5, (FRACTIONS - 0.5) * 200),  # as StandardScaler makes of rare pixels
        (FRACTIONS * 255, FRACTIONS),
        (FRACTIONS, (FRACTIONS * 255).astype(np.uint8)),
    ):
        cnn(1).fit(learned, np.arange(20) % 2).predict(asked)


class LikeAnArray:
    """As a data set in an HDF5 file: it has a shape, but not the methods of an array."""

    def __init__(self, array: Array) -> None:
        self.array, self.shape, self.ndim, self.dtype = array, array.shape, array.ndim, array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.array(self.array, dtype)


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        np.ndarray.tolist,
        LikeAnArray,
        lambda images: LikeAnArray(images.reshape(60, 36)),
        lambda images: [image[0] for image in images],
        lambda images: images[..., 0, :, :, None],
        lambda images: list(images[..., 0, :, :, None]),
    ],
)
def test_images_in_other_containers(convert: Callable[[Array], Any]) -> None:
    """Also with one channel at the end, which does not change the order of the numbers."""
    images = BYTES / np.float32(255)
    expected, one = cnn(2).fit(images, HALVES), cnn(2).fit(convert(images), HALVES)
    assert one.image_shape_ == (1, 6, 6)
    np.testing.assert_array_equal(one.predict_proba(convert(images)), one.predict_proba(images))
    np.testing.assert_allclose(one.predict_proba(images), expected.predict_proba(images), 1e-4)


def test_channels_at_the_end() -> None:
    """Those of colours are refused, because rows would have another order. A parameter decides."""
    colours, labels = np.random.default_rng(0).random((8, 6, 7, 3)), np.arange(8) % 2
    hint = "move the channels to the front with x.transpose(0, 3, 1, 2)"
    message = (
        f"CNNClassifier expects X of shape (N, C, H, W), got (N, 6, 7, 3); {hint}, or if it has 6 "
        "channels, say image_shape=(6, 7, 3)"
    )
    first = cnn(1).fit(colours.transpose(0, 3, 1, 2), labels)
    assert first.image_shape_ == (3, 6, 7)
    for action in (
        lambda: cnn(1).fit(colours, labels),
        lambda: cnn(1, image_shape=(3, 6, 7)).fit(colours, labels),
        lambda: first.predict(colours),
    ):
        assert refused(action) == message
    lines = colours.transpose(0, 3, 2, 1)  # 3 channels, 6 columns
    for images, shape in ((colours, (6, 7, 3)), (lines[..., :1], (3, 7, 1)), (lines, (3, 7, 6))):
        one = cnn(1, image_shape=shape).fit(images, labels)
        assert one.image_shape_ == shape
        assert len(one.predict(images)) == 8
    assert cnn(1).fit(lines[..., :1], labels).image_shape_ == (3, 7, 1)


def test_images_of_several_shapes() -> None:
    message = refused(lambda: cnn(1).fit([np.zeros((8, 8)), np.zeros((9, 8))], [0, 1]))
    assert message.startswith("X must hold images of one shape: ")


@pytest.mark.parametrize("shape", [(8, 8), (15, 40), (40, 15)])
def test_the_smallest_images_of_a_network(shape: Shape) -> None:
    message = refused(lambda: CNNClassifier("lenet").fit(np.zeros((2, *shape)), [0, 1]))
    assert message == (
        f"'lenet' needs images of at least 16x16 pixels, got images of shape {(1, *shape)}; use "
        "network='documented'"
    )
    CNNClassifier("lenet", epochs=1).fit(np.zeros((2, 16, 16)), [0, 1])


@pytest.mark.parametrize("kind", ["<f8", ">f8", "f4", ">f4", "f2", "i8"])
def test_the_precision_of_the_images(kind: str) -> None:
    one = cnn(1).fit(X.astype(kind), y)
    assert one.predict_proba(X).dtype == (np.float64 if "f8" in kind else np.float32)


def test_images_that_do_not_count_have_no_say_in_the_scale() -> None:
    assert cnn(1).fit([[1.0], [2.0], [99.0]], [0, 1, 1], [1, 1, 0]).scale_ == 2


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [
        ((36,), None, (1, 6, 6)),
        ((35,), None, (1, 1, 35)),
        ((1,), None, (1, 1, 1)),
        ((35,), (5, 7), (1, 5, 7)),
        ((36,), [4, 3, 3], (4, 3, 3)),
        ((5, 7), None, (1, 5, 7)),
        ((3, 5, 7), None, (3, 5, 7)),
        ((3, 5, 7), (3, 5, 7), (3, 5, 7)),
    ],
)
@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_the_shape_of_an_image(shape: Shape, given: Any, expected: Shape, augment: str) -> None:
    images = np.random.default_rng(0).random((8, *shape))
    one = CNNClassifier(epochs=1, image_shape=given, augment=augment, threads=1)
    one.fit(images, np.arange(8) % 2)
    assert one.image_shape_ == one.network_.input_shape == expected
    assert np.array_equal(one.predict_proba(images), one.predict_proba(images.reshape(8, -1)))


def test_images_go_through_cross_validation_as_they_are() -> None:
    rows, images = (
        cross_val_score(cnn(5), kind, y, cv=2, error_score="raise")
        for kind in (X, X.reshape(-1, 8, 8))
    )
    np.testing.assert_array_equal(rows, images)


def test_it_learns_digits_with_no_parameter_set() -> None:
    one = CNNClassifier(random_state=0).fit(X, y)
    assert one.score(X_TEST, Y_TEST) > 0.95
    assert one.n_iter_ == MIN_STEPS / 4


# Refused arguments -------------------------------------------------------------------------------


def other(rate: float, **arguments: Any) -> Network:
    return documented_network(rate, **arguments | {"classes": 7})


def none(rate: float, **arguments: Any) -> Any:
    return None


SIZE = "CNNClassifier expects {} to be a whole number of at least 1, got {}"
PARAMETERS: list[tuple[dict[str, Any], str]] = [
    (
        {"network": "resnet"},
        f"CNNClassifier expects network to be one of {', '.join(NETWORKS)}, got 'resnet'",
    ),
    ({"network": 3}, f"CNNClassifier expects network to be one of {', '.join(NETWORKS)}, got 3"),
    (
        {"network": "lenet"},
        "'lenet' needs images of at least 16x16 pixels, got images of shape (1, 8, 8); use "
        "network='documented'",
    ),
    (
        {"schedule": "fast"},
        f"CNNClassifier expects schedule to be one of {', '.join(SCHEDULES)}, got 'fast'",
    ),
    (
        {"augment": True},
        f"CNNClassifier expects augment to be one of {', '.join(AUGMENTATIONS)}, got True",
    ),
    ({"epochs": 0}, SIZE.format("epochs", 0)),
    ({"epochs": 2.0}, SIZE.format("epochs", 2.0)),
    ({"batch_size": "auto"}, SIZE.format("batch_size", "'auto'")),
    ({"n_iter_no_change": -1}, SIZE.format("n_iter_no_change", -1)),
    ({"threads": 0}, SIZE.format("threads", 0)),
    (
        {"learning_rate": -0.1},
        "CNNClassifier expects learning_rate to be a finite number of at least 0, got -0.1",
    ),
    (
        {"validation_fraction": 1.0},
        "CNNClassifier expects validation_fraction to be between 0 and 1, got 1.0",
    ),
    (
        {"image_shape": (7, 9)},
        "CNNClassifier expects image_shape to be (C, H, W) or (H, W) of 64 features, got (7, 9)",
    ),
    *(
        (
            {"image_shape": shape},
            "CNNClassifier expects image_shape to be (C, H, W) or (H, W) in whole numbers of at "
            f"least 1, got {shape!r}",
        )
        for shape in ((64,), 16, (-8, -8), (8.0, 8.0), "88", (1, 1, 8, 8))
    ),
    (
        {"validation_fraction": "0.1"},
        "CNNClassifier expects validation_fraction to be between 0 and 1, got '0.1'",
    ),
    (
        {"on_epoch": "print"},
        "CNNClassifier expects on_epoch to be a function or None, got 'print'",
    ),
    *(
        (
            {"class_weight": weight},
            f"CNNClassifier expects class_weight to be None, 'balanced' or a dict for [0 1 2], got "
            f"{weight!r}",
        )
        for weight in ("equal", 3, {3: 1.0}, {"0": 2.0})
    ),
    *(
        (
            {"class_weight": weight},
            f"CNNClassifier expects class_weight to be numbers of at least 0, got {weight!r}",
        )
        for weight in ({0: -1}, {0: "much"}, {1: float("nan")}, {1: float("inf")})
    ),
    *(
        (
            {"class_weight": {0: weight, 1: weight, 2: weight}},
            f"class_weight {dict.fromkeys(range(3), weight)} leaves no image with a weight that "
            "float32 can hold",
        )
        for weight in (0, 1e-50, 1e50)
    ),
    (
        {"learning_rate": 1e30},
        "loss is no longer finite at step 2, most likely because the learning rate is too large "
        "(the gradient is a sum over the batch, so larger batches need smaller rates); try a tenth "
        "of it",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), PARAMETERS)
def test_parameters_that_cannot_be_used(parameters: dict[str, Any], message: str) -> None:
    """The constructor stores any value; `fit` refuses a bad one."""
    one = CNNClassifier(**{"random_state": 0} | parameters)
    assert refused(lambda: one.fit(X, y)) == message


def test_functions_that_do_not_make_the_network() -> None:
    for make in (other, none):
        message = refused(partial(CNNClassifier(make).fit, X, y))
        made = make(0.001, input_shape=(1, 8, 8))
        assert message == (
            f"{make!r} does not make a network for images of shape (1, 8, 8) in 3 classes, but "
            f"{made!r}"
        )


def test_data_that_do_not_fit() -> None:
    one = cnn(1, warm_start=True).fit(X, y)
    images = X.reshape(-1, 8, 8)
    weights = np.ones(len(X))
    begin = "sample_weight must have a number for each of 200 images, none negative and not all of "
    few = begin.replace("200", "3")
    cases: list[tuple[Callable[[], object], str]] = [
        (
            lambda: one.predict(images.reshape(-1, 4, 16)),
            "X has images of shape (1, 4, 16), but CNNClassifier is expecting images of shape "
            "(1, 8, 8)",
        ),
        (
            lambda: one.predict(X[:, :60]),
            "X has 60 features, but CNNClassifier is expecting 64 features as input.",
        ),
        (
            lambda: cnn(image_shape=(4, 16)).fit(images, y),
            "CNNClassifier expects image_shape to be (1, 8, 8), got (4, 16)",
        ),
        (
            lambda: one.fit(X[y < 2], y[y < 2]),
            "warm_start can only be used where y has the same classes as in the last call to fit, "
            "[0 1 2], but it has [0 1]",
        ),
        (lambda: one.fit(X, y + 1), "y has the labels [3], but the classes are [0 1 2]"),
        (lambda: one.partial_fit(X, y + 2), "y has the labels [3 4], but the classes are [0 1 2]"),
        (
            lambda: one.partial_fit(X, y, [0, 1]),
            "classes were [0 1 2] on the first call to partial_fit, and now are [0 1]; leave them "
            "out",
        ),
        (
            lambda: cnn().partial_fit(X, y),
            "classes must be passed on the first call to partial_fit",
        ),
        (
            lambda: cnn(early_stopping=True).partial_fit(X, y, [0, 1, 2]),
            "partial_fit does not support early_stopping=True",
        ),
        (
            lambda: one.fit(X, y, weights[:3]),
            f"{begin}them zero, in the range of float32; it is [1. 1. 1.] of shape (3,)",
        ),
        (
            lambda: cnn(1).fit(X[:3], y[:3], [1, -1, 2]),
            f"{few}them zero, in the range of float32; it is [ 1. -1.  2.] of shape (3,)",
        ),
        *(
            (
                partial(cnn(1).fit, X[:3], y[:3], weights),
                f"{few}them zero, in the range of float32; it is {np.array(weights)} of shape (3,)",
            )
            for weights in ([1e-50, 0.0, 0.0], [1.0, 1.0, 1e50])
        ),
        (
            lambda: cnn(1, class_weight="balanced").partial_fit(X, y, [0, 1, 2]),
            "partial_fit does not support class_weight='balanced', because it does not see all "
            "images; use a dict",
        ),
        (
            lambda: one.set_params(image_shape=(4, 16)).fit(X, y),
            "CNNClassifier expects image_shape to be (1, 8, 8), as in the last call, got (4, 16)",
        ),
        (
            lambda: one.set_params(network="lenet").fit(X, y),
            f"the network of the last call was {small!r}, and now is 'lenet'; training can only "
            "continue with the same, or begin with fit and warm_start=False",
        ),
        (
            lambda: one.predict(np.full((2, 64), -1e300)),
            "X or the weights of the network are too large to compute with",
        ),
    ]
    for action, message in cases:
        assert refused(action) == message
    assert one.n_iter_ == 1  # not changed


# Files -------------------------------------------------------------------------------------------


def test_a_run_of_train_py_becomes_an_estimator(finished: Path, tmp_path: Path) -> None:
    from data import load_dataset

    images, labels = load_dataset("digits").test
    net = load_network(finished / "weights.npz")
    one = CNNClassifier.load(finished / "weights.npz", threads=1, epochs=1, warm_start=True)
    assert (one.network, one.scale_, one.image_shape_) == ("documented", 255, (1, 28, 28))
    assert one.classes_.tolist() == list(range(10))
    numbers = net.predict(images[:, None] / np.float32(255))
    for kind in (images, images / np.float32(255), images.reshape(-1, 784).astype(int)):
        assert one.predict(kind).tolist() == numbers.tolist()
    assert one.score(images, labels) == (numbers == labels).mean()
    one.fit(images, labels)  # continues
    before, now = net.parameters(), one.network_.parameters()
    assert 0 < np.abs(now["layer1.weights"] - before["layer1.weights"]).max() < 0.05


def test_what_it_saves_is_read_by_predict_py(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same classes as in `fit`."""
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    one = CNNClassifier(epochs=1, random_state=0, threads=1)
    one.fit(images, np.array(["left", "right"])[np.arange(20) % 2])
    one.save(tmp_path / "weights.npz")
    assert predict.main([str(SEVEN), "--weights", str(tmp_path / "weights.npz")]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert sorted(re.findall("left|right", line)) == ["left", "right"]


@pytest.mark.parametrize("labels", [[3, 1, 2], [2.0, -1.0, 0.0], ["b", "a", "c"], [True, False]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_round_trip_by_way_of_a_file(labels: list[Any], dtype: Any, tmp_path: Path) -> None:
    one = cnn(2).fit(X.astype(dtype), np.array(labels)[y % len(labels)])
    one.save(tmp_path / "w.npz")
    two = CNNClassifier.load(tmp_path / "w.npz", epochs=3)
    assert (two.network, two.epochs, two.scale_, two.n_iter_) == ("documented", 3, 16, 2)
    assert two.classes_.tolist() == one.classes_.tolist() == sorted(labels)
    np.testing.assert_array_equal(two.predict(X), one.predict(X))
    np.testing.assert_array_equal(two.predict_proba(X), one.predict_proba(X))
    two.partial_fit(X, one.predict(X))


def test_the_network_of_a_file_is_recognised(tmp_path: Path) -> None:
    for name, make in NETWORKS.items():
        make(input_shape=(3, 18, 20), classes=4).save(tmp_path / "w.npz")
        assert CNNClassifier.load(tmp_path / "w.npz").network == name
    assert CNNClassifier.load(tmp_path / "w.npz", network="lenet").network == "lenet"


def test_classes_of_train_py_that_are_not_in_order(tmp_path: Path) -> None:
    """They are sorted, as scikit-learn expects, together with the outputs."""
    net = documented_network(input_shape=(1, 8, 8), classes=3)
    net.layers[-1].bias[:] = [1.0, 2.0, 3.0]  # type: ignore[attr-defined]
    net.save(tmp_path / "w.npz", classes=["Shirt", "Bag", "Coat"])
    one = CNNClassifier.load(tmp_path / "w.npz")
    assert one.classes_.tolist() == ["Bag", "Coat", "Shirt"]
    assert set(one.predict(X)) == {"Coat"}
    np.testing.assert_allclose(
        one.predict_proba(X), net.predict_proba(X.reshape(-1, 1, 8, 8) / 255)[:, [1, 2, 0]], 1e-4
    )


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["10", "-9", "0"], [-9, 0, 10]),
        (["01", "1", "2"], ["01", "1", "2"]),
        (["1", "2", "x"], ["1", "2", "x"]),
        (["1", "2", "3.0"], ["1", "2", "3.0"]),
        (["1", "2", "9" * 5000], ["1", "2", "9" * 5000]),
    ],
)
def test_class_names_become_labels(names: list[str], labels: list[Any], tmp_path: Path) -> None:
    """Numbers, if all are whole numbers and each has only this name."""
    documented_network(input_shape=(1, 8, 8), classes=3).save(tmp_path / "w.npz", classes=names)
    assert CNNClassifier.load(tmp_path / "w.npz").classes_.tolist() == labels


LABELS_FAULT = "it does not hold a label for each class"


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"labels": [1, 2]}, LABELS_FAULT),
        ({"labels": [1, 2, 3, 3]}, LABELS_FAULT),
        ({"labels": [1, 2, 2]}, LABELS_FAULT),
        ({"labels": [1, 2, "3"]}, LABELS_FAULT),
        ({"labels": [[1], [2], [3]]}, LABELS_FAULT),
        ({"labels": []}, LABELS_FAULT),
        ({"labels": 3}, LABELS_FAULT),
        ({"scale": 0.5}, "it divides images by 0.5"),
        ({"scale": "\n"}, "it divides images by '\\n'"),
        ({"scale": float("nan")}, "it divides images by nan"),
    ],
)
def test_files_that_are_no_classifier(metadata: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    documented_network(input_shape=(1, 4, 4), classes=3).save(path, **metadata)
    message = f"{path} cannot be used: {fault}"
    assert refused(lambda: CNNClassifier.load(path), HandcnnError) == message


def test_a_network_that_does_not_classify_images(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    for net, fault in (
        (
            Network([OutputLayer(4, 2)], (4,)),
            "its network takes inputs of shape (4,), not images (C, H, W)",
        ),
        (
            Network([HiddenLayer(4, 2)], (1, 2, 2)),
            "its network gives no probabilities: its last layer is HiddenLayer(4 -> 2), no "
            "OutputLayer",
        ),
    ):
        net.save(path)
        message = f"{path} cannot be used: {fault}"
        assert refused(lambda: CNNClassifier.load(path), HandcnnError) == message


def test_an_old_pickle_is_read(tmp_path: Path) -> None:
    """Its class was in the module handcnn.estimator, and it had other parameters."""
    one = cnn(1).fit(X, y)
    one.average = None
    del one.class_weight, one.on_epoch
    with mock.patch.object(CNNClassifier, "__module__", "handcnn.estimator"):
        content = pickle.dumps(one)
    assert b"handcnn.estimator\x94" in content
    two = pickle.loads(content)
    np.testing.assert_array_equal(two.predict_proba(X), one.predict_proba(X))
    assert clone(two).get_params() == cnn(1).get_params()


def test_an_unfitted_one_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        CNNClassifier().save(tmp_path / "w.npz")
    assert not list(tmp_path.iterdir())
