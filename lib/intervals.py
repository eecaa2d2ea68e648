"""How well so many images, or so few seeds, tell an accuracy: numbers with their 95% intervals, in percent or points.

intervals.estimate([90.1, 90.7, 90.4], n=10_000) - intervals.estimate([83.8], n=10_000)    # +6.6 [+5.5, +7.6]
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from scipy.stats import binomtest


@cache
def interval(percent: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval, in percent, of an accuracy of `percent` on `n` examples."""
    found = binomtest(round(percent * n / 100), n).proportion_ci(method="wilson")
    return 100 * float(found.low), 100 * float(found.high)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval, in points."""

    value: float
    low: float
    high: float

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference and its interval (MOVER, Zou and Donner, 2008; of two Wilson intervals, Newcombe's)."""
        value = self.value - other.value
        low = value - math.hypot(self.value - self.low, other.high - other.value)
        return Estimate(value, low, value + math.hypot(self.high - self.value, other.value - other.low))

    @property
    def rises(self) -> bool:
        """Above 0, beyond the interval."""
        return self.low > 0

    @property
    def falls(self) -> bool:
        """Below 0, beyond the interval."""
        return self.high < 0

    def within(self, margin: float) -> bool:
        """At most `margin` from 0, whatever the interval."""
        return round(abs(self.value), 6) <= margin

    def beyond(self, margin: float) -> bool:
        """More than `margin` from 0, in either direction, and beyond the interval."""
        return not self.within(margin) and (self.rises or self.falls)

    def __str__(self) -> str:
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def estimate(values: Iterable[float], n: int) -> Estimate:
    """The mean over seeds, in percent; Wilson's interval over `n` images, widened to the range over seeds."""
    values = list(values)
    mean = sum(values) / len(values)
    low, high = interval(mean, n)
    return Estimate(mean, min(low, *values), max(high, *values))
