"""A convolutional network for scikit-learn: `CNNClassifier().fit(X, y)`.

Names and behaviour follow `sklearn.neural_network.MLPClassifier` where the two overlap. Training
uses the loop and the recipes of train.py.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from math import prod
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from handcnn.augmentation import AUGMENTATIONS, fitting
from handcnn.estimator.inputs import (
    as_array,
    class_indices,
    declared_shape,
    shape_of_images,
    weighted,
    wrong,
)
from handcnn.estimator.samples import (
    Batches,
    Samples,
    Scale,
    WeightedNetwork,
    divisor,
    guessed_preparation,
    guessed_shape,
)
from handcnn.kernels.threads import default_threads, use_threads
from handcnn.layers.checks import check_learning_rate, check_size
from handcnn.models import NETWORKS, Recipe, network_name, recipe_for, smallest_side
from handcnn.network import Network
from handcnn.preparation import Preparation, usual_preparation
from handcnn.schedule import SCHEDULES
from handcnn.storage.classifiers import read_classifier, write_classifier
from handcnn.training import Epoch, copies, train
from handcnn.types import Array, Shape


class CNNClassifier(ClassifierMixin, BaseEstimator):
    """Classifies small images with a convolutional network, trained by plain gradient descent.

    Images are rows (N, features) or (N, C, H, W), or (N, H, W) or (N, H, W, 1) of one channel, in
    an array, a list or anything else that becomes an array. Colours come first: (N, H, W, 3) is
    refused. Images of float64 are computed in float64, as in MLPClassifier, which takes twice as
    long; all others in float32.

    `fit` finds the number `scale_`, and all images are divided by it, at training and later. There
    is one exception. Where `scale_` is 255, an image without a value above 1 is taken for fractions
    and not divided, and where it is 1, bytes (uint8) are divided by 255. So most classifiers read
    both. A warning says when the images plainly have another scale than those of `fit`.

    None stands for the value in the recipe of the network (`handcnn.models.recipe_for`), which is
    another one for digits than for other images.

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
        image_shape: (C, H, W) or (H, W) of one image. None takes it from the array. For rows it
            guesses: a square if the number of features is a square number, otherwise one line.
        class_weight: how often an image of each class counts: a dict from labels to numbers, where
            a missing label has 1, or "balanced", so that all classes count the same together. It
            multiplies the `sample_weight`.
        random_state: an int makes results reproducible.
        threads: threads to compute with, see `use_threads`. None means one for each core up to
            four, but no more than OMP_NUM_THREADS, which joblib and Dask set to 1 in their workers.
        warm_start: whether `fit` continues from the network of the last call.
        on_epoch: is called after every epoch with its number, its loss, and the validation score,
            which is None without `early_stopping`.
        verbose: whether to print the loss of every epoch.

    Attributes:
        network_: the trained `Network`.
        classes_: the labels, sorted.
        n_features_in_: the number of values of an image; `feature_names_in_` if they have names.
        image_shape_: (C, H, W) of an image.
        preparation_: how pictures of these classes are prepared, a `Preparation`.
        scale_: 255 for bytes (uint8) above 1. Otherwise the largest value, or the root
            mean square if some values are negative. At least 1.
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
        class_weight: dict[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = None,
        threads: int | None = None,
        warm_start: bool = False,
        on_epoch: Callable[[int, float, float | None], object] | None = None,
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
        self.class_weight = class_weight
        self.random_state = random_state
        self.threads = threads
        self.warm_start = warm_start
        self.on_epoch = on_epoch
        self.verbose = verbose

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle. Parameters that an older one lacks have their defaults."""
        super().__setstate__(vars(type(self)()) | state)

    # Training ------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on images X with labels y. If that fails, the classifier is as it was before.

        Args:
            X: the images.
            y: a label for each, of any kind.
            sample_weight: how often each image counts: 0 leaves it out, 2 is like having it twice.

        Raises:
            ValueError: a parameter, an image or a label cannot be used, or the training diverges.
        """
        recipe = self._recipe()
        with self._unchanged_by_errors():
            if not self.warm_start or not hasattr(self, "network_"):
                samples = self._begin(recipe, X, y, sample_weight)
            else:
                samples = self._continue(X, y, sample_weight, needs_all_classes=True)
            recipe = self._recipe(self._preparation().name)
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
        if self.class_weight == "balanced":
            raise ValueError(
                "partial_fit does not support class_weight='balanced', because it does not see all "
                "images; use a dict"
            )
        is_first = not hasattr(self, "network_")
        if is_first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit")
        recipe = self._recipe()
        with self._unchanged_by_errors():
            if is_first:
                samples = self._begin(recipe, X, y, sample_weight, classes)
            else:
                samples = self._continue(X, y, sample_weight, classes)
            recipe = self._recipe(self._preparation().name)
            return self._train(samples, replace(recipe, epochs=1, schedule="constant"))

    @contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        """Restore all attributes if the block raises. It must not change them in place."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _recipe(self, preparation: str = "digits") -> Recipe:
        """Check every parameter; return the recipe for images that are prepared in this way."""
        name = "documented" if callable(self._named()) else self._named()
        recipe = recipe_for(_one_of(NETWORKS, "network", name), preparation)
        given = {part: getattr(self, part) for part in asdict(recipe)}
        recipe = replace(recipe, **{part: v for part, v in given.items() if v is not None})
        _one_of(SCHEDULES, "schedule", recipe.schedule)
        _one_of(AUGMENTATIONS, "augment", recipe.augment)
        check_size("CNNClassifier", "epochs", recipe.epochs)
        check_size("CNNClassifier", "batch_size", recipe.batch_size)
        check_size("CNNClassifier", "n_iter_no_change", self.n_iter_no_change)
        check_size("CNNClassifier", "threads", self._threads())
        check_learning_rate("CNNClassifier", recipe.learning_rate)
        fraction = self.validation_fraction
        if not isinstance(fraction, Real) or not 0 < fraction < 1:
            raise wrong("validation_fraction", "between 0 and 1", fraction)
        if not (self.on_epoch is None or callable(self.on_epoch)):
            raise wrong("on_epoch", "a function or None", self.on_epoch)
        return recipe

    def _named(self) -> Any:
        """Return the parameter `network`, and a function of `NETWORKS` as its name."""
        names = (name for name, make in NETWORKS.items() if make is self.network)
        return next(names, self.network)

    def _preparation(self) -> Preparation:
        """Return `preparation_`, which old pickles do not have."""
        names = [str(label) for label in self.classes_]
        usual = Preparation(usual_preparation(names))
        return getattr(self, "preparation_", usual)

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
        self.scale_ = divisor(samples.X)
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = None
        self._rng = self._generator()
        self._made_by = self._named()
        self.network_ = self._new_network(recipe, X.dtype)
        self.preparation_ = guessed_preparation(samples.X, self._scale, self.classes_)
        return samples

    def _continue(
        self, X: Any, y: Any, weights: Any, classes: Any = None, needs_all_classes: bool = False
    ) -> Samples:
        """Return the samples to continue training with. The network is replaced by its copy."""
        self._check_same_network()
        X, y = self._checked(X, y=y)
        check_classification_targets(y)
        samples = self._labelled(X, y, weights)
        if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes were {self.classes_} on the first call to partial_fit, and now are "
                f"{np.unique(classes)}; leave them out"
            )
        if needs_all_classes and len(np.unique(y)) < len(self.classes_):
            raise ValueError(
                "warm_start can only be used where y has the same classes as in the last call "
                f"to fit, {self.classes_}, but it has {np.unique(y)}"
            )
        self.network_ = self.network_.with_parameters(copies(self.network_.parameters()))
        self.loss_curve_, self._rng = deepcopy((self.loss_curve_, self._rng))
        return samples

    def _check_same_network(self) -> None:
        """Raise a ValueError if a parameter asks for another network than that of the last call."""
        if getattr(self, "_made_by", self._named()) != self._named():  # old pickles do not say
            raise ValueError(
                f"the network of the last call was {self._made_by!r}, and now is {self.network!r}; "
                "training can only continue with the same, or begin with fit and warm_start=False"
            )
        if declared_shape(self.image_shape) not in (None, self.image_shape_):
            expected = f"{self.image_shape_}, as in the last call"
            raise wrong("image_shape", expected, self.image_shape)

    def _checked(self, X: Any, reset: bool = False, **labels: Any) -> Any:
        """Return X as rows (N, features), with their labels if there are any."""
        X, shape = as_array(X), None
        known = declared_shape(self.image_shape) if reset else self.image_shape_
        if getattr(X, "ndim", 2) in (3, 4):
            shape = shape_of_images(X.shape[1:], known)
            X = X.reshape(len(X), prod(shape))
        checked = validate_data(self, X, reset=reset, **labels)
        if reset:
            self.image_shape_: Shape = self._image_shape(shape, known)
            return checked
        if shape not in (None, self.image_shape_):
            raise ValueError(
                f"X has images of shape {shape}, but CNNClassifier is expecting images of shape "
                f"{self.image_shape_}"
            )
        if difference := self._scale.difference(checked[0] if labels else checked):
            warnings.warn(difference, stacklevel=4)
        return checked

    def _image_shape(self, shape: Shape | None, declared: Shape | None) -> Shape:
        """Return (C, H, W): from the array, from `image_shape`, or guessed."""
        features = self.n_features_in_
        if declared is None:
            return shape or guessed_shape(features)
        if prod(declared) != features or shape not in (None, declared):
            expected = shape or f"(C, H, W) or (H, W) of {features} features"
            raise wrong("image_shape", expected, self.image_shape)
        return declared

    def _labelled(self, X: Array, y: Array, weights: Any) -> Samples:
        """Return the images of X that count, with their labels and weights."""
        samples = Samples(X, class_indices(y, self.classes_))
        return weighted(samples, weights, self.class_weight, self.classes_)

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
                dtype=np.float64 if dtype.kind == "f" and dtype.itemsize >= 8 else np.float32,
            )
        except (TypeError, ValueError) as error:
            _check_size_of_images(self._named(), self.image_shape_)
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
            stratify=self.classes_[samples.y],  # the labels, for the error message
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
                    if validation is not None:
                        waited += 1
                        if self._improves(validation):
                            kept, waited = net.with_parameters(copies(net.parameters())), 0
                    if self.on_epoch is not None:
                        scores = self.validation_scores_ if validation is not None else None
                        self.on_epoch(self.n_iter_, loss, scores[-1] if scores else None)
                    if waited == self.n_iter_no_change:
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
        """Return the most probable class (N,) of every image."""
        probabilities = self.predict_proba(X)
        labels: Array = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities (N, K), in the order of `classes_`.

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
        """Return the logarithms of the probabilities (N, K)."""
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
        write_classifier(
            path, self.network_, self.classes_, self.scale_, self._preparation(), self.n_iter_
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], **parameters: Any) -> Self:
        """Return the classifier that `save` or train.py wrote to `path`.

        Its classes are the labels that it was fitted with. Those of train.py are the names of its
        classes, as whole numbers if all of them are: 0 to 9 for MNIST.

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
        loaded.preparation_ = saved.preparation
        loaded.image_shape_, loaded.n_features_in_ = saved.image_shape, prod(saved.image_shape)
        loaded.n_iter_, loaded.loss_curve_ = epochs if type(epochs) is int else 0, []
        loaded.validation_scores_, loaded.best_validation_score_ = None, None
        loaded._rng, loaded._made_by = loaded._generator(), loaded._named()
        return loaded


def _one_of(names: Any, parameter: str, value: Any) -> str:
    """Return a parameter if it is one of the names."""
    if not isinstance(value, str) or value not in names:
        raise wrong(parameter, f"one of {', '.join(names)}", value)
    return value


def _check_size_of_images(network: Any, shape: Shape) -> None:
    """Raise a ValueError if images of this shape are too small for the network of this name."""
    side = smallest_side(network) if isinstance(network, str) else 1
    if min(shape[1:]) < side:
        raise ValueError(
            f"{network!r} needs images of at least {side}x{side} pixels, got images of shape "
            f"{shape}; use network='documented'"
        )
