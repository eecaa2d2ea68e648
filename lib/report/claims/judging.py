"""The declaration of a claim, and the functions that several checks use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import SupportsFloat

from lib.report.claims.evidence import COMPARABLE, AbsentError, Finding, Records
from lib.store.intervals import Estimate, interval

MUCH_MORE = 2.0  # times
STRONG_CORRELATION = 0.7
# Robust accuracies under PGD itself, with other settings: not another attack.
PGD_ITSELF = ("reference", "100_steps", "1000_steps", "restarts", "worst_case", "unboxed", "eps", "madry", "weights")


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


def more(first: Estimate, second: Estimate, *, large: bool = False) -> Finding:
    """The first is above the second, beyond the interval; `large`: by more than is comparable."""
    gap = first - second
    evidence = f"{first.value:.1f} against {second.value:.1f}, {gap}"
    return Finding(gap.rises and (gap.beyond(COMPARABLE) or not large), evidence)


def range_of(estimates: Mapping[str | float, Estimate]) -> tuple[Estimate, str]:
    """The highest minus the lowest, and both in words."""
    low, high = min(estimates, key=lambda name: estimates[name].value), max(estimates, key=lambda name: estimates[name].value)
    evidence = f"{estimates[low].value:.1f} ({low}) to {estimates[high].value:.1f} ({high}) over {len(estimates)} variants"
    return estimates[high] - estimates[low], evidence


def stable(estimates: Mapping[str, Estimate]) -> Finding:
    """Comparable on all variants."""
    spread, evidence = range_of(estimates)
    return Finding(spread.within(COMPARABLE), f"{evidence}, {spread}")


def varies(estimates: Mapping[str, Estimate]) -> Finding:
    """Not comparable on all variants, beyond the interval."""
    spread, evidence = range_of(estimates)
    return Finding(spread.beyond(COMPARABLE), f"{evidence}, {spread}")


def trend(estimates: Mapping, sign: int, *, large: bool = False, start: str | None = None) -> Finding:
    """From the first to the last it rises (`sign` 1) or falls (-1), and between neighbours it never goes the other way.

    Both beyond the interval; `large`: by more than is comparable. `start`: the variant that has to be the first.
    """
    names = list(estimates)
    if start not in (None, names[0]):
        raise AbsentError(f"needs {start} as the first variant; recorded: {', '.join(names)}")
    total = estimates[names[-1]] - estimates[names[0]]
    moves = (total.rises if sign > 0 else total.falls) and (total.beyond(COMPARABLE) or not large)
    steps = {f"{before} to {after}": estimates[after] - estimates[before] for before, after in pairwise(names)}
    against = [f"{name} {step}" for name, step in steps.items() if (step.falls if sign > 0 else step.rises)]
    evidence = f"{estimates[names[0]].value:.1f} ({names[0]}) to {estimates[names[-1]].value:.1f} ({names[-1]}), {total}"
    return Finding(moves and not against, evidence + (f", but {', '.join(against)}" if against else ""))


def all_hold(parts: Mapping[str, Finding]) -> Finding:
    """All of them hold; the evidence names those that do not, or the first and the last."""
    if not parts:
        raise AbsentError("needs variants on which all the numbers compared are recorded")
    failing = [f"{name}: {part.evidence}" for name, part in parts.items() if not part.holds]
    if failing:
        return Finding(False, f"on {len(failing)} of {len(parts)}; {'; '.join(failing)}")
    first_and_last = dict.fromkeys((next(iter(parts)), list(parts)[-1]))
    evidence = "; ".join(f"{name}: {parts[name].evidence}" for name in first_and_last)
    return Finding(True, f"on {len(parts)} of {len(parts)}; {evidence}")


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
    return all_hold({name: Finding(change.within(COMPARABLE), f"{change}") for name, change in changes.items()})


def monotone(values: Mapping[str, float], sign: int, pattern: str) -> Finding:
    """Of measured numbers, which have no interval: each is above (`sign` 1) or below (-1) the one before."""
    numbers = list(values.values())
    holds = all(sign * (after - before) > 0 for before, after in pairwise(numbers))
    return Finding(holds, ", ".join(f"{name} {pattern.format(value)}" for name, value in values.items()))
