"""The class names of the ten digits."""

from collections.abc import Sequence

DIGITS = tuple("0123456789")


def are_digits(names: Sequence[str]) -> bool:
    """Return whether these are the class names of the ten digits."""
    return tuple(names) == DIGITS
