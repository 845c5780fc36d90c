"""What a user may pass to `CNNClassifier`, checked: images of any kind, their shape, weights."""

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from handcnn.estimator.samples import Samples
from handcnn.layers.checks import channel_hint, check_size, show_shape
from handcnn.types import Array, Shape

MAX_CHANNELS = 4  # of images without an image_shape: grey, RGB, or RGB with opacity
MAX_WEIGHT = float(np.finfo(np.float32).max)
MIN_WEIGHT = float(np.finfo(np.float32).smallest_subnormal)


def wrong(parameter: str, expected: object, value: object) -> ValueError:
    """Return the error about a parameter of the constructor."""
    return ValueError(f"CNNClassifier expects {parameter} to be {expected}, got {value!r}")


def as_array(X: Any) -> Any:
    """Return lists, tuples and what is like an array as an array, and anything else as it is."""
    if isinstance(X, list | tuple):
        try:
            return np.asarray(X)
        except ValueError as error:
            raise ValueError(f"X must hold images of one shape: {error}") from error
    is_like_array = hasattr(X, "__array__") and not hasattr(X, "columns")  # no table with names
    return np.asarray(X) if is_like_array and not isinstance(X, np.ndarray) else X


def declared_shape(value: Any) -> Shape | None:
    """Return the parameter `image_shape` as (C, H, W), or None."""
    if value is None:
        return None
    try:
        sizes = [check_size("CNNClassifier", "image_shape", size) for size in value]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) not in (2, 3):
        raise wrong("image_shape", "(C, H, W) or (H, W) in whole numbers of at least 1", value)
    return (1, *sizes)[-3:]


def shape_of_images(shape: Shape, known: Shape | None) -> Shape:
    """Return (C, H, W) for images of this shape, which may be (H, W), (C, H, W) or (H, W, 1).

    Args:
        shape: of an image in the array.
        known: what the shape must be, if that is known.

    Raises:
        ValueError: the channels come last. Only grey images may have them there, where it makes no
            difference to the order of the numbers.
    """
    shape = (1, *shape)[-3:]
    height, width, channels = shape  # if they come last
    is_last = height > MAX_CHANNELS and channels in (1, 3, 4) and known is None
    if shape == known or not (is_last or known == (channels, height, width)):
        return shape
    if channels == 1:
        return (1, height, width)
    given: tuple[int | str, ...] = ("N", *shape)
    raise ValueError(
        f"CNNClassifier expects X of shape (N, C, H, W), got {show_shape(given)}; "
        f"{channel_hint(given, channels)}, or if it has {height} channels, say image_shape={shape}"
    )


def class_indices(y: Array, classes: Array) -> Array:
    """Return the index of the class of each label.

    The labels are compared as Python numbers, because NumPy rounds int64 and uint64 to float64.
    """
    index = {label: k for k, label in enumerate(classes.tolist())}
    indices = np.array([index.get(label, -1) for label in y.tolist()])
    if (indices < 0).any():
        raise ValueError(
            f"y has the labels {np.unique(y[indices < 0])}, but the classes are {classes}"
        )
    return indices


def weighted(samples: Samples, weights: Any, class_weight: Any, classes: Array) -> Samples:
    """Return the samples that count, with weights: those of the images times those of the classes.

    Args:
        samples: without weights.
        weights: the `sample_weight` of `fit`.
        class_weight: the parameter of the constructor.
        classes: the labels.
    """
    if weights is None and class_weight is None:
        return samples
    weights = _sample_weights(weights, len(samples.y))
    samples = replace(samples, weights=weights).at(weights > 0)
    if class_weight is None:
        return samples
    weights = samples.weights * _class_weights(samples, class_weight, classes)
    if not _fit_float32(weights):
        raise ValueError(
            f"class_weight {class_weight!r} leaves no image with a weight that float32 can hold"
        )
    return replace(samples, weights=weights).at(weights >= MIN_WEIGHT)


def _sample_weights(weights: Any, count: int) -> Array:
    """Return a weight for each image, with 0 for those that are too small for float32."""
    if weights is None or isinstance(weights, Real):  # one for all, as in scikit-learn
        weights = np.full(count, 1 if weights is None else weights)
    weights = check_array(weights, ensure_2d=False, dtype=float, input_name="sample_weight")
    if weights.shape != (count,) or weights.min() < 0 or not _fit_float32(weights):
        raise ValueError(
            f"sample_weight must have a number for each of {count} images, none negative and not "
            f"all of them zero, in the range of float32; it is {weights} of shape "
            f"{weights.shape}"
        )
    return np.where(weights < MIN_WEIGHT, 0, weights)


def _class_weights(samples: Samples, class_weight: Any, classes: Array) -> Array:
    """Return the weight of the class of each sample."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        totals = np.bincount(samples.y, samples.weights)
        share: Array = totals.sum() / np.count_nonzero(totals) / totals[samples.y]
        return share
    labels = classes.tolist()
    if not isinstance(class_weight, Mapping) or not class_weight.keys() <= set(labels):
        raise wrong("class_weight", f"None, 'balanced' or a dict for {classes}", class_weight)
    try:
        weights = np.array([class_weight.get(label, 1) for label in labels], float)
    except (TypeError, ValueError):
        weights = np.array([-1.0])
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        raise wrong("class_weight", "numbers of at least 0", class_weight)
    return weights[samples.y]


def _fit_float32(weights: Array) -> bool:
    """Return whether the largest of the weights is above 0 and finite in float32."""
    return MIN_WEIGHT <= float(weights.max()) <= MAX_WEIGHT
