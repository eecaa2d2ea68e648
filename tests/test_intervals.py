"""Intervals against published ones, and what an estimate says of itself."""

import math

import numpy as np
import pandas as pd
import pytest

from lib.store.intervals import ANY, Estimate, Spread, estimate, interval, pooled, spread_of


def test_the_interval_of_a_difference_is_newcombes():
    # Newcombe (1998, II), Table II, case 1: 56/70 against 48/80 gives .0524 to .3339.
    first, second = (Estimate(100 * k / n, *interval(100 * k / n, n)) for k, n in ((56, 70), (48, 80)))
    difference = first - second
    assert difference.value == pytest.approx(20)
    assert (difference.low, difference.high) == (pytest.approx(5.24, abs=0.01), pytest.approx(33.39, abs=0.01))


def test_one_seed_has_wilsons_interval():
    # Newcombe (1998, I), Table I: 81 of 263.
    estimated = estimate([100 * 81 / 263], 263)
    assert (
        (estimated.low, estimated.high)
        == interval(100 * 81 / 263, 263)
        == (pytest.approx(25.53, abs=0.01), pytest.approx(36.62, abs=0.01))
    )


def _records(*values: tuple[str, int, float], **columns) -> pd.DataFrame:
    """Records of robust accuracies on test images: (transform, seed, percent)."""
    about = {
        "dataset": "mnist", "model": "lenet5", "widen_factor": 1.0, "train_size": 60000, "recipe": "default", "scale": "laptop",
        "training": "pgd", "metric": "robust_accuracy", "split": "test", "n": 10_000,
    }  # fmt: skip
    rows = [{**about, "transform": name, "seed": seed, "value": value, **columns} for name, seed, value in values]
    return pd.DataFrame(rows)


def test_the_spread_is_pooled_over_groups_of_seeds():
    alike = _records(("a", 0, 50.0), ("a", 1, 52.0), ("b", 0, 48.0), ("b", 1, 50.0), ("c", 0, 10.0))
    spread = pooled(alike)["lenet5", "pgd", "robust_accuracy", "test"]
    # Two seeds 2 points apart have a standard deviation of √2; √(p(1 - p)) is 50 points, almost, at 49 and at 51.
    assert spread.freedom == 2
    assert spread.deviation(50) == pytest.approx(2**0.5, abs=1e-3)
    assert spread.deviation(100) == 0
    assert pooled(_records(("a", 0, 50.0), ("b", 1, 60.0))) == {}
    assert pooled(pd.concat([alike, _records(("a", 2, 90.0), recipe="thrice")])) == pooled(alike)  # a group of its own
    both = pooled(pd.concat([alike, _records(("a", 0, 30.0), ("a", 1, 32.0), recipe="thrice")]))
    assert both["lenet5", "pgd", "robust_accuracy", "test"].freedom == 3
    assert set(pooled(alike)) == {(network, "pgd", "robust_accuracy", "test") for network in ("lenet5", ANY)}


def test_each_network_has_its_own_spread():
    """Seeds of one network say nothing of another, unless that one has none: it gets the spread of all the others."""
    narrow = _records(("a", 0, 50.0), ("a", 1, 54.0))
    wide = _records(("a", 0, 50.0), ("a", 1, 50.2), model="wide_resnet28")
    spreads, quantity = pooled(pd.concat([narrow, wide])), ("pgd", "robust_accuracy", "test")
    assert spread_of(spreads, "lenet5", *quantity) == pooled(narrow)["lenet5", *quantity]
    assert spread_of(spreads, "wide_resnet28", *quantity) == pooled(wide)["wide_resnet28", *quantity]
    assert spread_of(spreads, "wide_resnet28", *quantity).deviation(50) == pytest.approx(0.2 / 2**0.5, rel=1e-3)
    of_all = spread_of(spreads, "small_convnet", *quantity)
    assert of_all.freedom == 2
    assert of_all.deviation(50) == pytest.approx(((4**2 + 0.2**2) / 4) ** 0.5, rel=2e-3)


def test_another_attack_borrows_the_spread_of_the_papers():
    spreads = {
        ("lenet5", "pgd", "robust_accuracy", "test"): Spread(0.05, 18),
        ("lenet5", "pgd", "robust_accuracy_unboxed", "test"): Spread(0.06, 12),
        (ANY, "pgd", "robust_accuracy", "test"): Spread(0.01, 18),
        (ANY, "pgd", "robust_accuracy_autoattack", "test"): Spread(0.07, 2),
    }
    assert spread_of(spreads, "lenet5", "pgd", "robust_accuracy_autoattack", "test").share == 0.05
    assert spread_of(spreads, "lenet5", "pgd", "robust_accuracy_unboxed", "test").share == 0.06
    assert spread_of(spreads, "lenet5", "pgd", "clean_accuracy", "test") is None
    assert spread_of(spreads, "lenet5", "standard", "robust_accuracy", "test") is None


def test_one_seed_is_as_uncertain_as_a_training_is():
    spread = Spread(0.04, 18)  # 2 points at 50%
    one, three = estimate([50.0], 10_000, spread), estimate([49.0, 50.0, 51.0], 10_000, spread)
    t = 2.1009  # Student's, 18 degrees of freedom
    images = 50 - interval(50.0, 10_000)[0]
    assert one.low == pytest.approx(50 - math.hypot(images, t * 2), abs=1e-3)
    assert three.high == pytest.approx(50 + math.hypot(images, t * 2 / 3**0.5), abs=1e-3)
    alone = one.of_one_training()
    assert (alone.value, alone.low, alone.high) == (50.0, *interval(50.0, 10_000))
    assert estimate([99.9], 1000, Spread(1.0, 18)).high == 100


def test_simulated_trainings_are_covered():
    """The interval is what it says: of 1000 trainings, each tested on images of its own, 95% have the truth in theirs."""
    draw = np.random.default_rng(0)
    truth, n = 80.0, 2000
    share = 0.05
    trained = truth + share * math.sqrt(truth * (100 - truth)) * draw.standard_normal((1000, 3))
    tested = 100 * draw.binomial(n, trained / 100) / n
    held = sum(
        estimated.low <= truth <= estimated.high for row in tested for estimated in [estimate(row[:1], n, Spread(share, 10**6))]
    )
    assert 930 <= held <= 970


def test_within_asks_the_whole_interval():
    assert Estimate(0.5, -2.0, 2.9).within(3.0)
    assert not Estimate(0.5, -2.0, 3.1).within(3.0)
    assert not Estimate(0.0, -6.0, 6.0).within(3.0)


@pytest.mark.parametrize(
    ("gap", "rises", "falls", "within_3", "beyond_3"),
    [
        (Estimate(5.0, 4.0, 6.0), True, False, False, True),
        (Estimate(-5.0, -6.0, -4.0), False, True, False, True),
        (Estimate(5.0, -1.0, 11.0), False, False, False, False),
        (Estimate(2.0, 1.0, 3.0), True, False, True, False),
        (Estimate(3.0, 2.0, 4.0), True, False, False, False),
        (Estimate(0.0, 0.0, 0.0), False, False, True, False),
    ],
)
def test_what_an_estimate_says(gap, rises, falls, within_3, beyond_3):
    assert (gap.rises, gap.falls, gap.within(3.0), gap.beyond(3.0)) == (rises, falls, within_3, beyond_3)


def test_an_estimate_reads_well():
    assert str(Estimate(6.62, 5.5, 7.6)) == "+6.6 [+5.5, +7.6]"
