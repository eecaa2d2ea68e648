"""Numbers with their 95% intervals, in percent or points, from the number of images and the spread between trainings.

spread = intervals.pooled(records)["lenet5", "pgd", "robust_accuracy", "test"]
intervals.estimate([90.1, 90.7, 90.4], 10_000, spread) - intervals.estimate([83.8], 10_000, spread)    # +6.6 [+2.0, +11.2]
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import pandas as pd
from scipy.stats import binomtest
from scipy.stats import t as student


@cache
def interval(percent: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval, in percent, of an accuracy of `percent` on `n` examples."""
    interval = binomtest(round(percent * n / 100), n).proportion_ci(method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


@dataclass(frozen=True)
class Spread:
    """How far trainings differ whose seeds alone differ, pooled over runs with several seeds.

    Near 0% and 100% there is no room to differ, as there is none for the images' chance: the standard deviation of an accuracy
    p is taken to go with √(p(1 - p)).
    """

    share: float  # the standard deviation as a share of √(p(1 - p))
    freedom: int  # degrees of freedom: seeds less groups

    def deviation(self, percent: float) -> float:
        """The standard deviation over seeds, in points, of an accuracy of `percent`."""
        return self.share * math.sqrt(percent * (100 - percent))

    def half(self, percent: float, seeds: int) -> float:
        """Half the width, in points, of the 95% interval of a mean of `percent` over so many seeds (Student's)."""
        return float(student.ppf(0.975, self.freedom)) * self.deviation(percent) / math.sqrt(seeds)


Spreads = Mapping[tuple[str, str, str, str], Spread]  # by network, training, metric and split
ANY = ""  # every network


def pooled(records: pd.DataFrame) -> dict[tuple[str, str, str, str], Spread]:
    """By (network, training, metric, split), the spread over seeds, pooled over all groups of runs that differ in their seed
    alone: for each network by itself, and for `ANY` over all. Without those quantities that no two seeds are recorded of.

    `records`: as `results.frame` gives them. Groups of every data set, variant, recipe and width weigh by their seeds, since a
    standard deviation of three seeds says little by itself.
    """
    rows = records[records["value"].notna() & (records["training"] != "")]
    run = ["dataset", "transform", "model", "widen_factor", "train_size", "recipe", "scale"]
    grouped = rows.groupby(["training", "metric", "split", *run])["value"].agg(["mean", "var", "count"]).reset_index()
    grouped = grouped[(grouped["count"] > 1) & (grouped["mean"] > 0) & (grouped["mean"] < 100)]
    grouped["freedom"] = grouped["count"] - 1
    grouped["squares"] = grouped["freedom"] * grouped["var"] / (grouped["mean"] * (100 - grouped["mean"]))
    grouped = pd.concat([grouped, grouped.assign(model=ANY)])
    summed = grouped.groupby(["model", "training", "metric", "split"])[["squares", "freedom"]].sum()
    return {key: Spread(math.sqrt(row.squares / row.freedom), int(row.freedom)) for key, row in summed.iterrows()}


def spread_of(spreads: Spreads, model: str, training: str, metric: str, split: str) -> Spread | None:
    """The spread of a quantity; of another attack's robust accuracy, where it has none, that of the paper's attack.

    A network without several seeds borrows the spread of those that have them.
    """
    bases = ("clean_accuracy", "robust_accuracy", "robustness_wrt_predictions")
    names = [metric, *(base for base in bases if metric.startswith(base))]
    keys = ((network, training, name, split) for network in (model, ANY) for name in names)
    return next((spreads[key] for key in keys if key in spreads), None)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval, in points; of an accuracy also the interval that its images alone give it."""

    value: float
    low: float
    high: float
    images: tuple[float, float] | None = None  # the interval of the images alone, without the trainings' spread

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two trainings, and its interval (MOVER, Zou and Donner, 2008; of two Wilson's, Newcombe's)."""
        value = self.value - other.value
        low = value - math.hypot(self.value - self.low, other.high - other.value)
        return Estimate(value, low, value + math.hypot(self.high - self.value, other.value - other.low))

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, -self.high, -self.low)

    def of_one_training(self) -> "Estimate":
        """The same number for a comparison within one training: which training it is makes no difference there."""
        return self if self.images is None else Estimate(self.value, *self.images)

    @property
    def rises(self) -> bool:
        """Above 0, beyond the interval."""
        return self.low > 0

    @property
    def falls(self) -> bool:
        """Below 0, beyond the interval."""
        return self.high < 0

    def within(self, margin: float) -> bool:
        """Shown to be at most `margin` from 0: the whole interval is. An interval that holds 0 shows no such thing."""
        return -margin <= self.low <= self.high <= margin

    def beyond(self, margin: float) -> bool:
        """More than `margin` from 0, in either direction, and beyond the interval."""
        return round(abs(self.value), 6) > margin and (self.rises or self.falls)

    def __str__(self) -> str:
        return f"{self.value:+z.1f} [{self.low:+z.1f}, {self.high:+z.1f}]"


def of_records(
    values: Iterable[float], sizes: Iterable[float], spreads: Spreads, model: str, training: str, metric: str, split: str
) -> Estimate:
    """The estimate of a recorded quantity: its values over seeds, and how many images each is of, the least of which counts."""
    return estimate(values, int(min(sizes)), spread_of(spreads, model, training, metric, split))


def estimate(values: Iterable[float], n: int, spread: Spread | None = None) -> Estimate:
    """The mean over seeds, in percent, with its 95% interval: Wilson's over `n` images and, where a `spread` is known,
    Student's over trainings, added as independent errors are. Without one it holds the images' chance alone.
    """
    values = list(values)
    mean = sum(values) / len(values)
    low, high = interval(mean, n)
    half = spread.half(mean, len(values)) if spread else 0.0
    ends = max(0.0, mean - math.hypot(mean - low, half)), min(100.0, mean + math.hypot(high - mean, half))
    return Estimate(mean, *ends, images=(low, high))
