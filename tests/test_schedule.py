"""Learning rate schedules.

Oracles: values computed by hand, the areas under the curves, and a training divided into another
number of epochs.
"""

import pytest

from handcnn.schedule import SCHEDULES, learning_rates

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [  # at the beginning, after a tenth, a fifth, a third, a half, and at the end
        ("constant", (1, 1, 1, 1, 1, 1)),
        ("one-cycle", (0, 1 / 2, 1, 5 / 6, 5 / 8, 0)),
        ("cosine", (1, 0.9755282581, 0.9045084972, 3 / 4, 1 / 2, 0)),
    ],
)
def test_shares_by_hand(schedule: str, shares: tuple[float, ...]) -> None:
    found = [SCHEDULES[schedule](progress) for progress in (0, 0.1, 0.2, 1 / 3, 0.5, 1)]
    assert found == pytest.approx(shares, abs=1e-10)


@pytest.mark.parametrize(
    ("schedule", "first", "second"),
    [  # the middles of two steps: an eighth, three eighths; five eighths, seven eighths
        ("constant", (0.4, 0.4), (0.4, 0.4)),
        ("one-cycle", (0.4 * 5 / 8, 0.4 * 25 / 32), (0.4 * 15 / 32, 0.4 * 5 / 32)),
        ("cosine", (0.3847759065, 0.2765366865), (0.1234633135, 0.0152240935)),
    ],
)
def test_two_epochs_of_two_steps_by_hand(
    schedule: str, first: tuple[float, float], second: tuple[float, float]
) -> None:
    """The rate of a step is that of its middle, so no step has the rate 0."""
    for epoch, rates in ((1, first), (2, second)):
        assert learning_rates(schedule, 0.4, epoch, 2, 2) == pytest.approx(rates, abs=1e-10)


@every_schedule
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 120), (2, 60), (5, 24), (40, 3)])
def test_the_curve_does_not_know_where_an_epoch_ends(
    schedule: str, epochs: int, steps: int
) -> None:
    rates = [
        rate
        for epoch in range(1, epochs + 1)
        for rate in learning_rates(schedule, 0.01, epoch, epochs, steps)
    ]
    assert rates == learning_rates(schedule, 0.01, 1, 1, epochs * steps)
    assert all(0 < rate <= 0.01 for rate in rates)


@pytest.mark.parametrize(
    ("schedule", "area"), [("constant", 1.0), ("one-cycle", 1 / 2), ("cosine", 1 / 2)]
)
@pytest.mark.parametrize("steps", [5, 60, 435])
def test_the_rates_add_up_to_the_area_under_the_curve(
    schedule: str, area: float, steps: int
) -> None:
    """It is half of that of a constant rate; midpoints of steps give a triangle's area exactly."""
    total = sum(sum(learning_rates(schedule, 0.02, epoch, 3, steps)) for epoch in (1, 2, 3))
    assert total == pytest.approx(0.02 * 3 * steps * area, rel=1e-12)
