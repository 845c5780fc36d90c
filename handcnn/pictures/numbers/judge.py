"""The judge: how likely an image is one whole digit, rather than a piece of one, or several.

It is a network beside the one that reads the digits, which may be anybody's and knows nothing of
pieces. benchmarks/judge.py trains it on pieces, pairs and digits that were cut from numbers.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handcnn.network import Network
from handcnn.pictures.preparing import to_batch
from handcnn.storage.networks import load_network
from handcnn.types import Array

WEIGHTS = Path(__file__).with_name("judge.npz")
SUREST = 1e-5  # probabilities nearer to 0 or 1 count as this near


class Verdict(NamedTuple):
    """What the judge says of n images."""

    odds: Array  # (n,) the logarithm of the odds that each is one whole digit
    digits: Array  # (n, 10) the probability of each digit, if it is one


def judge(images: Sequence[Array]) -> Verdict:
    """Return the judge's verdict on images (28, 28), sketched by candidates.py."""
    if not images:
        return Verdict(np.zeros(0), np.zeros((0, 10)))
    rows = _network().predict_proba(to_batch(images)).astype(float)  # (n, 11)
    no_digit = np.clip(rows[:, 10], SUREST, 1 - SUREST)
    digits = np.maximum(rows[:, :10], SUREST / 10)
    return Verdict(np.log((1 - no_digit) / no_digit), digits / digits.sum(axis=1, keepdims=True))


@cache
def _network() -> Network:
    return load_network(WEIGHTS)
