"""Intervals against published ones, and what an estimate says of itself."""

import pytest

from lib.intervals import Estimate, estimate, interval


def test_the_interval_of_a_difference_is_newcombes():
    # Newcombe (1998, II), Table II, case 1: 56/70 against 48/80 gives .0524 to .3339.
    first, second = (Estimate(100 * k / n, *interval(100 * k / n, n)) for k, n in ((56, 70), (48, 80)))
    difference = first - second
    assert difference.value == pytest.approx(20)
    assert (difference.low, difference.high) == (pytest.approx(5.24, abs=0.01), pytest.approx(33.39, abs=0.01))


def test_one_seed_has_wilsons_interval():
    # Newcombe (1998, I), Table I: 81 of 263.
    found = estimate([100 * 81 / 263], 263)
    assert (
        (found.low, found.high)
        == interval(100 * 81 / 263, 263)
        == (pytest.approx(25.53, abs=0.01), pytest.approx(36.62, abs=0.01))
    )


def test_seeds_that_lie_apart_widen_it():
    found = estimate([80.0, 90.0], 10_000)
    assert (found.value, found.low, found.high) == (85.0, 80.0, 90.0)
    close = estimate([84.9, 85.1], 10_000)
    assert (close.low, close.high) == interval(85.0, 10_000)


@pytest.mark.parametrize(
    ("gap", "rises", "falls", "within_3", "beyond_3"),
    [
        (Estimate(5.0, 4.0, 6.0), True, False, False, True),
        (Estimate(-5.0, -6.0, -4.0), False, True, False, True),
        (Estimate(5.0, -1.0, 11.0), False, False, False, False),
        (Estimate(2.0, 1.0, 3.0), True, False, True, False),
        (Estimate(3.0, 2.0, 4.0), True, False, True, False),
        (Estimate(0.0, 0.0, 0.0), False, False, True, False),
    ],
)
def test_what_an_estimate_says(gap, rises, falls, within_3, beyond_3):
    assert (gap.rises, gap.falls, gap.within(3.0), gap.beyond(3.0)) == (rises, falls, within_3, beyond_3)


def test_an_estimate_reads_well():
    assert str(Estimate(6.62, 5.5, 7.6)) == "+6.6 [+5.5, +7.6]"
