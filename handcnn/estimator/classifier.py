"""A convolutional network for scikit-learn: `CNNClassifier().fit(X, y)`.

Names and behaviour follow `sklearn.neural_network.MLPClassifier` where the two overlap. Training
uses the loop and the recipes of train.py.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from math import prod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from handcnn.augmentation import AUGMENTATIONS, fitting
from handcnn.estimator.samples import (
    Batches,
    Samples,
    Scale,
    WeightedNetwork,
    guessed_shape,
    largest_value,
)
from handcnn.kernels.threads import default_threads, use_threads
from handcnn.layers.checks import check_learning_rate, check_size
from handcnn.models import NETWORKS, RECIPES, Recipe, network_name
from handcnn.network import Network
from handcnn.schedule import SCHEDULES
from handcnn.storage.classifiers import read_classifier, write_classifier
from handcnn.training import Epoch, copies, train
from handcnn.types import Array, Shape


class CNNClassifier(ClassifierMixin, BaseEstimator):
    """Classifies small images with a convolutional network, trained by plain gradient descent.

    Images are rows (n, features) or arrays (n, C, H, W), or (n, H, W) of one channel. They are
    divided by `scale_`, so that grey values lie in [0, 1]. Bytes and fractions are recognised image
    by image, so a classifier trained on one kind also reads the other. Images of float64 are
    computed in float64, as in MLPClassifier, which takes twice as long; all others in float32.

    None stands for the value in the recipe of the network (`handcnn.models.RECIPES`).

    Args:
        network: "documented", "lenet" or "deep"; or a function that takes the arguments of
            `handcnn.models.documented_network` and returns a `Network`. Such a function is trained
            by the recipe of "documented".
        epochs: the most passes over the images. None is the recipe's number, or more if that would
            be fewer than 2,000 steps of fewer images than MNIST's.
        batch_size: images per step.
        learning_rate: the largest of the schedule, for the gradient of the summed loss.
        schedule: "constant", "one-cycle" or "cosine".
        augment: random changes to each training image, "none", "shift", "distort" or
            "handwriting", which also distorts, and adds strokes to 1s and 7s if the classes are the
            ten digits.
        early_stopping: whether to hold out some images and stop when the score on them no longer
            improves. The weights with the best score are kept.
        validation_fraction: the share of the images held out for that.
        n_iter_no_change: training stops after this many epochs without a better score.
        image_shape: (C, H, W) or (H, W) of one row. None guesses: a square if the number of
            features is a square number, otherwise an image of one line.
        random_state: an int makes results reproducible.
        threads: threads to compute with. None means two, or one if there is only one core or if
            OMP_NUM_THREADS is 1, as joblib and Dask set it in their workers.
        warm_start: whether `fit` continues from the network of the last call.
        verbose: whether to print the loss of every epoch.

    Attributes:
        network_: the trained `Network`.
        classes_: the labels, sorted.
        n_features_in_: the number of values of an image; `feature_names_in_` if they have names.
        image_shape_: (C, H, W) of an image.
        scale_: 255 for bytes (uint8) above 1. Otherwise the largest value, or the standard
            deviation if some values are negative. At least 1.
        n_iter_: epochs of the last call.
        loss_curve_: the loss of every epoch.
        validation_scores_: the accuracy after every epoch with `early_stopping`, otherwise None.
        best_validation_score_: the score of the weights that were kept, or None.
    """

    def __init__(
        self,
        network: str | Callable[..., Network] = "documented",
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        schedule: str | None = None,
        augment: str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        image_shape: Shape | None = None,
        random_state: int | np.random.RandomState | None = None,
        threads: int | None = None,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.image_shape = image_shape
        self.random_state = random_state
        self.threads = threads
        self.warm_start = warm_start
        self.verbose = verbose

    # Training ------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on images X with labels y.

        Args:
            X: the images.
            y: a label for each, of any kind.
            sample_weight: how often each image counts: 0 leaves it out, 2 is like having it twice.

        Raises:
            ValueError: a parameter, an image or a label cannot be used, or the training diverges.
        """
        recipe = self._recipe()
        if not self.warm_start or not hasattr(self, "network_"):
            samples = self._begin(recipe, X, y, sample_weight)
        else:
            samples = self._continue(X, y, sample_weight)
            if len(np.unique(y)) < len(self.classes_):
                raise ValueError(
                    "warm_start can only be used where y has the same classes as in the last call "
                    f"to fit, {self.classes_}, but it has {np.unique(y)}"
                )
        samples, validation = self._split(samples)
        if self.epochs is None:
            recipe = recipe.for_images(len(samples.X))
        return self._train(samples, recipe, validation)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch on images X with labels y, at a constant learning rate.

        The arguments are those of `fit`, and `classes`: all labels that will ever come. The first
        call needs them.
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        recipe = replace(self._recipe(), epochs=1, schedule="constant")
        if hasattr(self, "network_"):
            samples = self._continue(X, y, sample_weight)
            if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ValueError(
                    f"classes were {self.classes_} on the first call to partial_fit, and now are "
                    f"{np.unique(classes)}; leave them out"
                )
        elif classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit")
        else:
            samples = self._begin(recipe, X, y, sample_weight, classes)
        return self._train(samples, recipe)

    def _recipe(self) -> Recipe:
        """Check every parameter; return the recipe to train by."""
        name = self.network
        if callable(name):
            name = next((known for known, make in NETWORKS.items() if make is name), "documented")
        recipe = RECIPES[_one_of(NETWORKS, "network", name)]
        given = {part: getattr(self, part) for part in asdict(recipe)}
        recipe = replace(recipe, **{part: v for part, v in given.items() if v is not None})
        _one_of(SCHEDULES, "schedule", recipe.schedule)
        _one_of(AUGMENTATIONS, "augment", recipe.augment)
        check_size("CNNClassifier", "epochs", recipe.epochs)
        check_size("CNNClassifier", "batch_size", recipe.batch_size)
        check_size("CNNClassifier", "n_iter_no_change", self.n_iter_no_change)
        check_size("CNNClassifier", "threads", self._threads())
        check_learning_rate("CNNClassifier", recipe.learning_rate)
        if not 0 < self.validation_fraction < 1:
            raise _wrong("validation_fraction", "between 0 and 1", self.validation_fraction)
        return recipe

    def _threads(self) -> int:
        """Return how many threads to compute with."""
        if self.threads is not None:
            return self.threads
        allowed = os.environ.get("OMP_NUM_THREADS", "")
        most = max(1, int(allowed)) if allowed.isdecimal() else default_threads()
        return min(default_threads(), most)

    def _begin(self, recipe: Recipe, X: Any, y: Any, weights: Any, classes: Any = None) -> Samples:
        """Check the data and build the network; return the samples to train with."""
        X, y = self._checked(X, reset=True, y=y)
        check_classification_targets(y)
        self.classes_ = unique_labels(y if classes is None else classes)
        samples = self._labelled(X, y, weights)
        self.scale_ = largest_value(samples.X)
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = None
        self._rng = self._generator()
        self.network_ = self._new_network(recipe, X.dtype)
        return samples

    def _continue(self, X: Any, y: Any, weights: Any) -> Samples:
        """Return the samples to continue training with."""
        X, y = self._checked(X, y=y)
        check_classification_targets(y)
        return self._labelled(X, y, weights)

    def _checked(self, X: Any, reset: bool = False, **labels: Any) -> Any:
        """Return X as rows (n, features), with their labels if there are any."""
        shape = None
        if getattr(X, "ndim", 2) in (3, 4):
            shape = (1, *X.shape[1:])[-3:]
            X = X.reshape(len(X), prod(shape))
        checked = validate_data(self, X, reset=reset, **labels)
        if reset:
            self.image_shape_ = self._image_shape(shape)
        elif shape not in (None, self.image_shape_):
            raise ValueError(
                f"X has images of shape {shape}, but CNNClassifier is expecting images of shape "
                f"{self.image_shape_}"
            )
        return checked

    def _image_shape(self, shape: Shape | None) -> Shape:
        """Return (C, H, W): from the array, from `image_shape`, or guessed."""
        features = self.n_features_in_
        if self.image_shape is None:
            return shape or guessed_shape(features)
        given = (1, *self.image_shape)[-3:]
        if len(given) < 3 or prod(given) != features or shape not in (None, given):
            expected = shape or f"(C, H, W) or (H, W) of {features} features"
            raise _wrong("image_shape", expected, self.image_shape)
        return given

    def _labelled(self, X: Array, y: Array, weights: Any) -> Samples:
        """Return the images of X that count, with their labels and weights."""
        if len(unknown := np.setdiff1d(y, self.classes_)):
            raise ValueError(f"y has the labels {unknown}, but the classes are {self.classes_}")
        samples = Samples(X, np.searchsorted(self.classes_, y))
        if weights is None:
            return samples
        weights = check_array(weights, ensure_2d=False, dtype=float, input_name="sample_weight")
        if weights.shape != y.shape or weights.min() < 0 or not weights.any():
            raise ValueError(
                f"sample_weight must have a number for each of {len(y)} images, none negative and "
                f"not all of them zero; it is {weights} of shape {weights.shape}"
            )
        return replace(samples, weights=weights).at(weights > 0)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31))

    def _new_network(self, recipe: Recipe, dtype: np.dtype[Any]) -> Network:
        make = self.network if callable(self.network) else NETWORKS[self.network]
        classes = len(self.classes_)
        what = f"a network for images of shape {self.image_shape_} in {classes} classes"
        try:
            net = make(
                recipe.learning_rate,
                input_shape=self.image_shape_,
                classes=classes,
                rng=self._rng,
                dtype=np.float64 if dtype == np.float64 else np.float32,
            )
        except ValueError as error:
            raise ValueError(f"{self.network!r} cannot make {what}: {error}") from error
        if not isinstance(net, Network) or net.output_shapes()[-1] != (classes,):
            raise ValueError(f"{self.network!r} does not make {what}, but {net!r}")
        return net

    def _split(self, samples: Samples) -> tuple[Samples, Samples | None]:
        """Return the samples to train with, and those held out for early stopping."""
        if not self.early_stopping:
            return samples, None
        parts = train_test_split(
            np.arange(len(samples.X)),
            test_size=self.validation_fraction,
            stratify=samples.y,
            random_state=int(self._rng.integers(2**31)),
        )
        train, validation = map(samples.at, parts)
        return train, validation

    def _train(self, samples: Samples, recipe: Recipe, validation: Samples | None = None) -> Self:
        """Train the epochs of the recipe, or until the validation score no longer improves."""
        net, kept, waited = self.network_, self.network_, 0
        self.n_iter_ = 0
        self.best_validation_score_: float | None = None
        try:
            with use_threads(self._threads()), np.errstate(all="ignore"):
                for loss in self._losses(samples, recipe):
                    self.n_iter_ += 1
                    self.loss_curve_.append(loss)
                    if self.verbose:
                        print(f"Iteration {self.n_iter_}, loss = {loss:.8f}")
                    if validation is None:
                        continue
                    if self._improves(validation):
                        kept, waited = net.with_parameters(copies(net.parameters())), 0
                    elif (waited := waited + 1) == self.n_iter_no_change:
                        break
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=3)
        kept.set_learning_rate(recipe.learning_rate)
        self.network_ = kept
        return self

    def _losses(self, samples: Samples, recipe: Recipe) -> Iterator[float]:
        """Train epoch by epoch, and yield the mean loss of an image of weight 1 in each."""
        net, mean_weight = self.network_, 1.0
        if samples.weights is not None:
            net, mean_weight = WeightedNetwork(net), samples.weights.mean()
        names = [str(name) for name in self.classes_]
        recipe = replace(recipe, augment=fitting(recipe.augment, names))
        batches = Batches(samples, self._scale, recipe.batch_size, len(self.classes_), self._rng)
        for event in train(net, batches, recipe, self._rng):
            if isinstance(event, Epoch):
                yield float(event.metrics.loss / mean_weight)

    def _improves(self, validation: Samples) -> bool:
        """Record the score of the network and return whether it is the best so far."""
        right = (
            self._scale.predict_proba(self.network_, validation.X).argmax(axis=1) == validation.y
        )
        score = float(np.average(right, weights=validation.weights))
        self.validation_scores_ = [*(self.validation_scores_ or []), score]
        if self.verbose:
            print(f"Validation score: {score:f}")
        best = self.best_validation_score_
        if best is None or score > best:
            self.best_validation_score_ = score
        return self.best_validation_score_ != best

    # Prediction ----------------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """Return the most probable class (n,) of every image."""
        probabilities = self.predict_proba(X)
        labels: Array = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities (n, K), in the order of `classes_`.

        Raises:
            ValueError: an image does not fit, or its numbers are too large to compute with.
        """
        check_is_fitted(self)
        X = self._checked(X)
        with use_threads(self._threads()), np.errstate(all="ignore"):
            probabilities = self._scale.predict_proba(self.network_, X)
        if not np.isfinite(probabilities).all():
            raise ValueError("X or the weights of the network are too large to compute with")
        return probabilities

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities (n, K)."""
        log: Array = np.log(self.predict_proba(X))
        return log

    @property
    def _scale(self) -> Scale:
        dtype = next(iter(self.network_.parameters().values())).dtype
        return Scale(self.image_shape_, self.scale_, dtype)

    # Files ---------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network and its classes to `path` (.npz), for `load` and predict.py.

        The errors are those of `Network.save`.
        """
        check_is_fitted(self)
        write_classifier(path, self.network_, self.classes_, self.scale_, self.n_iter_)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **parameters: Any) -> Self:
        """Return the classifier that `save` or train.py wrote to `path`.

        Its classes are the labels that it was fitted with. Those of train.py are texts, "0" to "9"
        for MNIST.

        Args:
            path: the file.
            parameters: of the constructor, which are not in the file. Only `network` follows from
                it, if the network has a name.

        Raises:
            HandcnnError: the file cannot be used.
        """
        saved, classes, scale = read_classifier(path)
        name, epochs = network_name(saved.net) or "documented", saved.metadata.get("epoch")
        loaded = cls(**{"network": name} | parameters)
        loaded.network_, loaded.classes_, loaded.scale_ = saved.net, classes, scale
        loaded.image_shape_, loaded.n_features_in_ = saved.image_shape, prod(saved.image_shape)
        loaded.n_iter_, loaded.loss_curve_ = epochs if type(epochs) is int else 0, []
        loaded.validation_scores_, loaded.best_validation_score_ = None, None
        loaded._rng = loaded._generator()
        return loaded


def _one_of(names: Any, parameter: str, value: Any) -> str:
    """Return a parameter if it is one of the names."""
    if not isinstance(value, str) or value not in names:
        raise _wrong(parameter, f"one of {', '.join(names)}", value)
    return value


def _wrong(parameter: str, expected: object, value: object) -> ValueError:
    return ValueError(f"CNNClassifier expects {parameter} to be {expected}, got {value!r}")
