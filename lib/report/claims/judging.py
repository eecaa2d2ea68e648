"""The declaration of a claim, and the functions that several checks use."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import and_
from typing import SupportsFloat

from lib.report.claims.evidence import COMPARABLE, AbsentError, Finding, Records
from lib.store.intervals import Estimate, interval

MUCH_MORE = 2.0  # times
STRONG_CORRELATION = 0.7


@dataclass(frozen=True)
class Claim:
    """A sentence of ours that says what the paper claims in words, its section, and the check.

    `certain`: the reason, where no honest record can contradict the claim; the check then tests our code, not the paper.
    """

    name: str
    sentence: str
    judge: Callable[[Records], Finding]
    certain: str = ""

    @property
    def section(self) -> str:
        """The part of the name before the first hyphen: `3.3`, `D.2.1`."""
        return self.name.partition("-")[0]


CLAIMS: dict[str, Claim] = {}


def claim(name: str, sentence: str, judge: Callable[[Records], Finding], *, certain: str = "") -> None:
    """Declare a claim."""
    CLAIMS[name] = Claim(name, sentence, judge, certain)


def shown(holds: bool, possible: bool, evidence: str) -> Finding:
    """What is to be shown beyond intervals: undecided where it does not hold, and is `possible` within them."""
    return Finding(holds, evidence, undecided=possible and not holds)


def together(findings: Sequence[Finding], evidence: str) -> Finding:
    """All of them, as one condition with an evidence of its own."""
    return replace(reduce(and_, findings), evidence=evidence)


def rises(change: Estimate, margin: float = 0.0, evidence: str = "") -> Finding:
    """A change is above `margin`, and above 0 beyond its interval."""
    return shown(change.rises and change.value > margin, change.high > margin, evidence or f"{change}")


def falls(change: Estimate, margin: float = 0.0, evidence: str = "") -> Finding:
    """A change is below -`margin`, and below 0 beyond its interval."""
    return rises(-change, margin, evidence or f"{change}")


def within(change: Estimate, margin: float = COMPARABLE, evidence: str = "") -> Finding:
    """The whole interval of a change is at most `margin` from 0."""
    return shown(change.within(margin), change.low <= margin and change.high >= -margin, evidence or f"{change}")


def at_least(change: Estimate, least: float, evidence: str = "") -> Finding:
    """The whole interval of a change is `least` or above."""
    return shown(change.low >= least, change.high >= least, evidence or f"{change}")


def more(first: Estimate, second: Estimate, *, large: bool = False) -> Finding:
    """The first is above the second, beyond the interval; `large`: by more than is comparable."""
    gap = first - second
    return rises(gap, COMPARABLE if large else 0.0, f"{first.value:.1f} against {second.value:.1f}, {gap}")


def range_of(estimates: Mapping[str | float, Estimate]) -> tuple[Estimate, str]:
    """The highest minus the lowest, and both in words."""
    low, high = min(estimates, key=lambda name: estimates[name].value), max(estimates, key=lambda name: estimates[name].value)
    evidence = f"{estimates[low].value:.1f} ({low}) to {estimates[high].value:.1f} ({high}) over {len(estimates)} variants"
    return estimates[high] - estimates[low], evidence


def stable(estimates: Mapping[str, Estimate]) -> Finding:
    """Comparable on all variants."""
    spread, evidence = range_of(estimates)
    return within(spread, COMPARABLE, f"{evidence}, {spread}")


def varies(estimates: Mapping[str, Estimate]) -> Finding:
    """Not comparable on all variants, beyond the interval."""
    spread, evidence = range_of(estimates)
    return rises(spread, COMPARABLE, f"{evidence}, {spread}")


def trend(estimates: Mapping, sign: int, *, large: bool = False, start: str | None = None) -> Finding:
    """From the first to the last it rises (`sign` 1) or falls (-1), and between neighbours it never goes the other way.

    Both beyond the interval; `large`: by more than is comparable. `start`: the variant that has to be the first.
    """
    names = list(estimates)
    if start not in (None, names[0]):
        raise AbsentError(f"needs {start} as the first variant; recorded: {', '.join(names)}")
    total = estimates[names[-1]] - estimates[names[0]]
    evidence = f"{estimates[names[0]].value:.1f} ({names[0]}) to {estimates[names[-1]].value:.1f} ({names[-1]}), {total}"
    moves = (rises if sign > 0 else falls)(total, COMPARABLE if large else 0.0, evidence)
    steps = {f"{before} to {after}": estimates[after] - estimates[before] for before, after in pairwise(names)}
    against = [f"{name} {step}" for name, step in steps.items() if (step.falls if sign > 0 else step.rises)]
    return moves & Finding(False, f"but {', '.join(against)}") if against else moves


def all_hold(parts: Mapping[str, Finding]) -> Finding:
    """All of them hold; the evidence names those that fail, or those that are undecided, or the first and the last."""
    if not parts:
        raise AbsentError("needs variants on which all the numbers compared are recorded")
    open_parts = [name for name, part in parts.items() if not part.holds]
    failing = [name for name in open_parts if not parts[name].undecided]
    named = failing or open_parts or dict.fromkeys((next(iter(parts)), list(parts)[-1]))
    evidence = "; ".join(f"{name}: {parts[name].evidence}" for name in named)
    count = len(failing or open_parts) or len(parts)
    more_parts = ", for example" if not open_parts and len(parts) > 2 else ""
    return shown(not open_parts, not failing, f"on {count} of {len(parts)}{more_parts}; {evidence}")


def share(count: SupportsFloat, n: SupportsFloat) -> Estimate:
    """A share of n points, in percent."""
    percent = 100 * float(count) / float(n)
    return Estimate(percent, *interval(percent, int(n)))


def differences(
    first: Mapping[str, Estimate], second: Mapping[str, Estimate], *, one_training: bool = False
) -> dict[str, Estimate]:
    """The second minus the first, where both are; `one_training`: of the same models."""
    if one_training:
        first, second = ({name: estimate.of_one_training() for name, estimate in side.items()} for side in (first, second))
    return {name: second[name] - first[name] for name in first if name in second}


def almost_the_same(r: Records, dataset: str, first: tuple, second: tuple, variants: Sequence[str]) -> Finding:
    """On each variant, of the same model."""
    changes = differences(
        *(r.accuracies(dataset, quantity, variants, at_least=1) for quantity in (first, second)), one_training=True
    )
    return all_hold({name: within(change) for name, change in changes.items()})


def monotone(values: Mapping[str, float], sign: int, pattern: str) -> Finding:
    """Of measured numbers, which have no interval: each is above (`sign` 1) or below (-1) the one before."""
    numbers = list(values.values())
    holds = all(sign * (after - before) > 0 for before, after in pairwise(numbers))
    return Finding(holds, ", ".join(f"{name} {pattern.format(value)}" for name, value in values.items()))


def nearer(cube: float, ball: float) -> str:
    """Which of two distances is the smaller, that to the "cube" or that to the "ball"; "" where they are within 5%."""
    if math.isclose(cube, ball, rel_tol=0.05):
        return ""
    return "ball" if ball < cube else "cube"
