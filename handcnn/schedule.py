"""Learning rate schedules: functions from progress (0 to 1) to a share of the largest rate.

The update stays plain SGD. A schedule only sets the layers' `learning_rate` before each step.
"""

from collections.abc import Callable
from math import cos, pi

RISE = 0.2  # share of a one-cycle schedule during which the rate rises (L. N. Smith, 2018)


def constant(progress: float) -> float:
    """Return 1: the same rate at every step."""
    return 1.0


def one_cycle(progress: float) -> float:
    """Return a share that rises linearly from 0 to 1 in the first fifth, then falls back to 0."""
    return progress / RISE if progress < RISE else (1 - progress) / (1 - RISE)


def cosine(progress: float) -> float:
    """Return a share that falls from 1 to 0 along half a cosine (Loshchilov and Hutter, 2017)."""
    return (1 + cos(pi * progress)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "one-cycle": one_cycle,
    "cosine": cosine,
}


def learning_rates(
    schedule: str, largest: float, epoch: int, epochs: int, steps: int
) -> list[float]:
    """Return the learning rate of every step of one epoch.

    Args:
        schedule: a name in `SCHEDULES`.
        largest: the largest rate of the schedule.
        epoch: from 1 to `epochs`.
        epochs: number of epochs in the whole training.
        steps: number of steps in an epoch.
    """
    share = SCHEDULES[schedule]
    middles = [((epoch - 1) * steps + step + 0.5) / (epochs * steps) for step in range(steps)]
    return [largest * share(progress) for progress in middles]
